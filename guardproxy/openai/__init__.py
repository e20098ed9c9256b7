"""The language that apps speak: bodies, events, errors and header fields of the OpenAI API, as pure functions."""
