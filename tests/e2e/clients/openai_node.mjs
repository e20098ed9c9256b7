// openai-node: the calls of its README, as the rows of rows.py have them.
import OpenAI from "openai";
import { zodResponseFormat } from "openai/helpers/zod";
import { z } from "zod";

const base = process.argv[2];
const client = new OpenAI({ baseURL: `${base}/v1`, apiKey: "none" });
const messages = [{ role: "user", content: "Generate a brief perfume description." }];
const found = {};

async function does(row, what) {
  try {
    await what();
    found[row] = "yes";
  } catch (error) {
    found[row] = `${error.constructor.name}: ${error.message}`.slice(0, 300);
  }
}

function check(truth, what) {
  if (!truth) throw new Error(`not so: ${what}`);
}

async function sent(upstream) {
  const text = await (await fetch(`${base}/metrics`)).text();
  const line = text.split("\n").find((each) => each.startsWith(`llm_requests_total{model="${upstream}"} `));
  return Number(line.split(" ").pop());
}

const Thing = z.object({ name: z.string().max(20), n: z.number().int().min(0).max(9) });
const schema = {
  type: "object",
  properties: { name: { type: "string", maxLength: 20 }, n: { type: "integer", minimum: 0, maximum: 9 } },
  required: ["name", "n"],
  additionalProperties: false,
};

await does("chat", async () => {
  const answer = await client.chat.completions.create({ model: "creative", messages, max_tokens: 20 });
  check(answer.choices[0].message.content && answer.usage.completion_tokens, "it says something");
});
await does("stream", async () => {
  const stream = await client.chat.completions.create({ model: "balanced", messages, max_tokens: 20, stream: true });
  let text = "";
  for await (const chunk of stream) text += chunk.choices[0]?.delta?.content ?? "";
  check(text, "it says something");
});
await does("structured", async () => {
  const response_format = zodResponseFormat(Thing, "thing");
  const answer = await client.chat.completions.parse({ model: "fast", messages, max_tokens: 300, response_format });
  Thing.parse(answer.choices[0].message.parsed);
});
await does("structured stream", async () => {
  const response_format = zodResponseFormat(Thing, "thing");
  const stream = client.chat.completions.stream({ model: "llama", messages, max_tokens: 300, response_format });
  Thing.parse((await stream.finalChatCompletion()).choices[0].message.parsed);
});
await does("tools", async () => {
  const tools = [{ type: "function", function: { name: "look", description: "Looks.", parameters: schema } }];
  const answer = await client.chat.completions.create({ model: "caller", messages, tools, max_tokens: 120 });
  for (const call of answer.choices[0].message.tool_calls) Thing.parse(JSON.parse(call.function.arguments));
});
found["async"] = "yes"; // there is nothing else in this language
await does("responses", async () => {
  const answer = await client.responses.create({ model: "mistral", input: messages[0].content, max_output_tokens: 20 });
  check(answer.output_text, "it says something");
});
await does("headers", async () => {
  const asked = { model: "creative", messages, max_tokens: 5 };
  const { response } = await client.chat.completions.create(asked).withResponse();
  check(response.headers.get("x-guardproxy-upstream") === "llama", "the header is there");
});
await does("choices", async () => {
  const answer = await client.chat.completions.create({ model: "qwen", messages, max_tokens: 5, n: 2, logprobs: true });
  check(answer.choices.length === 2 && answer.choices[1].logprobs.content.length, "two choices with log probabilities");
});
await does("models", async () => {
  const names = [];
  for await (const model of client.models.list()) names.push(model.id);
  check(names.includes("creative") && names.includes("qwen"), "modes and upstreams are there");
});
await does("error", async () => {
  try {
    await client.chat.completions.create({ model: "nobody", messages });
  } catch (error) {
    check(error instanceof OpenAI.NotFoundError && error.code === "model_not_found", "its error");
    return;
  }
  throw new Error("no error");
});
await does("gives up", async () => {
  const before = await sent("dead");
  try {
    await client.chat.completions.create({ model: "dead", messages });
  } catch (error) {
    check(error instanceof OpenAI.InternalServerError && (await sent("dead")) === before + 1, "one try");
    return;
  }
  throw new Error("no error");
});
console.log("\n" + JSON.stringify(found));
