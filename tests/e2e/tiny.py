"""Makes tiny language models with random weights, so that real model servers can run where nothing can be downloaded.

    python tiny.py FOLDER        FOLDER/{qwen,mistral,llama}.gguf of 0.7 MB each, and FOLDER/slow.gguf of 25 MB

What they write is noise; how servers tell it (streams, usage, grammars, cancellation) is not.  Three shapes: `qwen` is
a qwen2 with byte-level BPE and ChatML, `mistral` a llama with SentencePiece and ``[INST]``, `llama` a llama with
byte-level BPE and headers; `slow` is `llama` with more to compute.  Runs in the engine's own environment (gguf, numpy).

The first dimension of the residual stream is a constant, so that the first column of the output matrix is a bias for
each token: only printable tokens are written, quotes and brackets often enough that a grammar comes to its end, and the
end of text now and then.  The second dimension leads from ``<tool_call>`` to a new line, or where a
grammar forbids that to the end of a string, and the third from ``</tool_call>`` to the end of text: whoever raises both
tokens by ``logit_bias`` gets one call of a tool.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gguf
import numpy as np
from gguf import TokenType

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

CONTEXT = 4096
HEADS, KV_HEADS = 4, 2
NEVER, RARE, END, CLOSING, SURE = -30.0, -4.0, 0.6, 1.5, 40.0
"""Biases: of what is not printable, of the beginning of a tool call, of the end of text, of what closes JSON."""
TOOL = ("<tool_call>", "</tool_call>")
WORDS = """\
the of and to in a is that it was for on are with as his they be at one have this from by hot word but what some we can
out other were all there when up use your how said an each she which do their time if will way about many then them
write would like so these her long make thing see him two has look more day could go come did number sound no most
people my over know water than call first who may down side been now find any new work user assistant system answer
name age city hello world json true false null
"""
CHATML = (  # with tools as Qwen and Hermes are told of them, from which the server knows their language
    "{%- if tools %}{{- '<|im_start|>system\\n# Tools\\n\\nYou are provided with function signatures within "
    "<tools></tools> XML tags:\\n<tools>' }}{%- for tool in tools %}{{- '\\n' }}{{- tool | tojson }}{%- endfor %}"
    "{{- '\\n</tools>\\n\\nFor each function call, return a json object with function name and arguments within "
    '<tool_call></tool_call> XML tags:\\n<tool_call>\\n{\\"name\\": <function-name>, \\"arguments\\": '
    "<args-json-object>}\\n</tool_call><|im_end|>\\n' }}{%- endif %}"
    "{%- for m in messages %}{%- if m['role'] == 'assistant' %}{{- '<|im_start|>assistant\\n' + (m.content or '') }}"
    '{%- for call in (m.tool_calls or []) %}{{- \'\\n<tool_call>\\n{\\"name\\": \\"\' + call.function.name + '
    "'\\\", \\\"arguments\\\": ' }}{{- call.function.arguments | tojson }}{{- '}\\n</tool_call>' }}{%- endfor %}"
    "{{- '<|im_end|>\\n' }}{%- elif m['role'] == 'tool' %}{{- '<|im_start|>user\\n<tool_response>\\n' + m.content "
    "+ '\\n</tool_response><|im_end|>\\n' }}{%- else %}"
    "{{- '<|im_start|>' + m['role'] + '\\n' + m['content'] + '<|im_end|>\\n' }}{%- endif %}{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- endif %}"
)
INST = (
    "{{ bos_token }}{% for m in messages %}{% if m['role'] == 'assistant' %} {{ m['content'] }}{{ eos_token }}"
    "{% else %}[INST] {{ m['content'] }} [/INST]{% endif %}{% endfor %}"
)
HEADERS = (
    "{{ bos_token }}{% for m in messages %}<|start_header_id|>{{ m['role'] }}<|end_header_id|>\n\n{{ m['content'] }}"
    "<|eot_id|>{% endfor %}{% if add_generation_prompt %}<|start_header_id|>assistant<|end_header_id|>\n\n{% endif %}"
)


@dataclass
class Vocabulary:
    tokens: list[str]
    types: list[TokenType]
    kind: str
    merges: list[str]
    spaces: str
    """How a space is written."""

    def printable(self, number: int) -> bool:
        text = self.tokens[number]
        return self.types[number] is TokenType.NORMAL and all(33 <= ord(c) < 127 or c == self.spaces for c in text)

    def byte(self, char: str) -> int:
        """The token of one character."""
        return self.tokens.index(char if char in self.tokens else f"<0x{ord(char):02X}>")


def _letters() -> dict[int, str]:
    """How byte-level BPE writes each byte as one character."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in plain]
    return {byte: chr(byte) for byte in plain} | {byte: chr(256 + n) for n, byte in enumerate(others)}


def _parts(space: str, least: int) -> Iterator[str]:
    """The beginnings of all words, with and without a space before them, so that merges reach each word."""
    for word in WORDS.split():
        for spelled in (word, space + word):
            for end in range(least, len(spelled) + 1):
                yield spelled[:end]


def byte_level(specials: list[str]) -> Vocabulary:
    letters = _letters()
    tokens, merges = [letters[byte] for byte in range(256)], []
    known = set(tokens)
    for part in _parts(letters[32], 2):
        if part not in known:
            known.add(part)
            tokens.append(part)
            merges.append(f"{part[:-1]} {part[-1]}")
    types = [TokenType.NORMAL] * len(tokens)
    types += [TokenType.USER_DEFINED if special in TOOL else TokenType.CONTROL for special in specials]
    return Vocabulary(tokens + specials, types, "gpt2", merges, letters[32])


def pieces() -> Vocabulary:
    space = "\u2581"
    tokens = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), "[INST]", "[/INST]"]
    types = [TokenType.UNKNOWN, TokenType.CONTROL, TokenType.CONTROL, *[TokenType.BYTE] * 256]
    types += [TokenType.CONTROL] * 2
    added = list(dict.fromkeys([*_parts(space, 1), *map(chr, range(33, 127)), space]))
    return Vocabulary(tokens + added, types + [TokenType.NORMAL] * len(added), "llama", [], space)


def make(path: Path, arch: str, words: Vocabulary, template: str, marks: tuple[str | None, str], **size: int) -> None:
    """Write one model: *marks* are the tokens that begin and end a text."""
    width, layers = size.get("width", 64), size.get("layers", 2)
    dice = np.random.default_rng(len(path.name))
    begin, end = marks
    last = words.tokens.index(end)
    writer: Any = gguf.GGUFWriter(str(path), arch)
    writer.add_name(path.stem)
    writer.add_context_length(CONTEXT)
    writer.add_embedding_length(width)
    writer.add_block_count(layers)
    writer.add_feed_forward_length(2 * width)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KV_HEADS)
    writer.add_vocab_size(len(words.tokens))
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_freq_base(10000.0)
    writer.add_rope_dimension_count(width // HEADS)
    writer.add_file_type(gguf.LlamaFileType.ALL_F32)
    writer.add_tokenizer_model(words.kind)
    writer.add_token_list(words.tokens)
    writer.add_token_types([int(kind) for kind in words.types])
    if words.kind == "gpt2":
        writer.add_tokenizer_pre("qwen2" if arch == "qwen2" else "llama-bpe")
        writer.add_token_merges(words.merges)
    else:
        writer.add_token_scores([-float(number) for number in range(len(words.tokens))])
        writer.add_unk_token_id(0)
        writer.add_add_space_prefix(False)
    writer.add_eos_token_id(last)
    if begin is not None:
        writer.add_bos_token_id(words.tokens.index(begin))
    writer.add_add_bos_token(False)  # the template writes it
    writer.add_chat_template(template)

    def random(*shape: int) -> NDArray[np.float32]:
        return (dice.standard_normal(shape) / np.sqrt(shape[-1])).astype(np.float32)

    embeddings = random(len(words.tokens), width) * np.float32(np.sqrt(width))
    embeddings[:, 0], embeddings[:, 1:3] = 4.0, 0.0
    output = random(len(words.tokens), width) * np.float32(2.0)
    output[:, 0] = [0.0 if words.printable(number) else NEVER for number in range(len(words.tokens))]
    output[[words.byte(char) for char in '"}],'], 0] = CLOSING
    output[last, 0] = END
    output[:, 1:3] = 0.0
    output[words.tokens.index(newline) if (newline := "\u010a") in words.tokens else words.byte("\n"), 1] = SURE
    output[words.byte('"'), 1] = SURE / 2
    output[last, 2] = SURE
    for column, tool in enumerate(TOOL if TOOL[0] in words.tokens else (), 1):
        embeddings[words.tokens.index(tool), column] = SURE
        output[words.tokens.index(tool), 0] = RARE
    writer.add_tensor("token_embd.weight", embeddings)
    writer.add_tensor("output_norm.weight", np.ones(width, np.float32))
    writer.add_tensor("output.weight", output)
    narrow = KV_HEADS * width // HEADS
    for layer in range(layers):
        into, down = random(width, width), random(width, 2 * width)
        into[:3] = down[:3] = 0  # nothing writes the first three
        named = {
            "attn_norm.weight": np.ones(width, np.float32),
            "ffn_norm.weight": np.ones(width, np.float32),
            "attn_q.weight": random(width, width),
            "attn_k.weight": random(narrow, width),
            "attn_v.weight": random(narrow, width),
            "attn_output.weight": into,
            "ffn_gate.weight": random(2 * width, width),
            "ffn_up.weight": random(2 * width, width),
            "ffn_down.weight": down,
        }
        if arch == "qwen2":
            named |= {"attn_q.bias": random(width), "attn_k.bias": random(narrow), "attn_v.bias": random(narrow)}
        for name, tensor in named.items():
            writer.add_tensor(f"blk.{layer}.{name}", tensor)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def main(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    chatml = byte_level(["<|endoftext|>", "<|im_start|>", "<|im_end|>", *TOOL])
    headers = byte_level(["<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"])
    make(folder / "qwen.gguf", "qwen2", chatml, CHATML, (None, "<|im_end|>"))
    make(folder / "mistral.gguf", "llama", pieces(), INST, ("<s>", "</s>"))
    make(folder / "llama.gguf", "llama", headers, HEADERS, ("<|begin_of_text|>", "<|eot_id|>"))
    make(folder / "slow.gguf", "llama", headers, HEADERS, ("<|begin_of_text|>", "<|eot_id|>"), width=256, layers=10)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
