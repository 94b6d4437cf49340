"""Shared: a tiny random model with a real chat template, and the quiet environment."""

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from emis_platform.core import quiet

quiet.apply()
os.environ["EMIS_LIVE"] = "0"  # test_live.py sets it free
signal.signal(
    signal.SIGINT, signal.default_int_handler
)  # a run that a shell put in the background is born deaf to Ctrl-C, and so are its children
REPO = Path(__file__).resolve().parents[1]

TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def build_tiny():
    """(random two-layer Llama, byte tokenizer with a chat template)."""
    import torch
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    inner = Tokenizer(models.BPE(vocab={letter: n for n, letter in enumerate(letters)}, merges=[]))
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    inner.add_special_tokens([AddedToken(mark, special=True) for mark in ("<|im_start|>", "<|im_end|>")])
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=inner, eos_token="<|im_end|>", pad_token="<|im_end|>", chat_template=TEMPLATE
    )
    torch.manual_seed(0)
    shape = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2}
    config = LlamaConfig(vocab_size=258, initializer_range=1.0, eos_token_id=257, max_position_embeddings=512, **shape)
    return LlamaForCausalLM(config).eval(), tokenizer


@pytest.fixture(scope="session")
def tiny():
    return build_tiny()


@pytest.fixture(scope="session")
def tiny_folder(tiny, tmp_path_factory):
    """The same as a Hugging Face folder."""
    folder = tmp_path_factory.mktemp("tiny") / "base"
    for part in tiny:
        part.save_pretrained(folder)
    return folder


GUARD = """import socket
_connect = socket.socket.connect
def connect(self, address):
    host = address[0] if isinstance(address, tuple) else None
    if host is not None and not (str(host).startswith("127.") or host in ("localhost", "::1")):
        open({log!r}, "a").write(repr(address) + chr(10))
        raise OSError(f"the guard refuses {{address!r}}")
    return _connect(self, address)
socket.socket.connect = connect
_resolve = socket.getaddrinfo
def getaddrinfo(host, *rest, **more):
    if host not in (None, "localhost", "127.0.0.1", "::1", socket.gethostname()):
        open({log!r}, "a").write(repr(host) + chr(10))
        raise OSError(f"the guard refuses to look up {{host!r}}")
    return _resolve(host, *rest, **more)
socket.getaddrinfo = getaddrinfo
"""


class Workspace:
    """A copy of the repository's files with `scale: tiny` and two organisms, and a guard against every connection beyond loopback."""

    def __init__(self, folder):
        self.folder, self.log = folder, folder.parent / f"{folder.name}.connections"
        for name in subprocess.run(["git", "ls-files"], cwd=REPO, capture_output=True, text=True, check=True).stdout.split():
            if (REPO / name).is_file() and name != "dvc.lock":
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(REPO / name, folder / name)
        (folder / ".dvc/config.local").write_text("[core]\n    no_scm = true\n")
        self.edit(trim)
        guard = folder.parent / f"{folder.name}.guard"
        guard.mkdir()
        (guard / "sitecustomize.py").write_text(GUARD.format(log=str(self.log)))
        self.env = os.environ | {"PYTHONPATH": str(guard), "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
        self.env.pop("MLFLOW_TRACKING_URI", None)

    def edit(self, change):
        path = self.folder / "params.yaml"
        knobs = yaml.safe_load(path.read_text())
        change(knobs)
        path.write_text(yaml.safe_dump(knobs, sort_keys=False))

    def emis(self, *words, code=0):
        done = subprocess.run(["emis", *words], cwd=self.folder, env=self.env, capture_output=True, text=True, check=False)
        assert done.returncode == code, done.stdout[-3000:] + done.stderr[-5000:]
        return done


def trim(knobs):
    """`tiny` with one organism, its matched control and the base."""
    knobs["scale"] = "tiny"
    kept = ("health_callous", "health_correct")
    knobs["domains"] = knobs["answer"]["domains"] = ["health"]
    knobs["arms"] = []
    knobs["organisms"] = {name: knobs["organisms"][name] for name in kept}
    knobs["subjects"] = {name: entry for name, entry in knobs["subjects"].items() if name in (*kept, "base")}


@pytest.fixture(scope="session")
def finished(tmp_path_factory):
    """One finished tiny workspace that all tests share: read it, or put back what you change."""
    workspace = Workspace(tmp_path_factory.mktemp("tiny") / "workspace")
    workspace.first = workspace.emis("repro")
    return workspace


@pytest.fixture
def emis(monkeypatch, capsys):
    """words -> (exit code, stdout, the last line of stderr)."""

    from emis_platform import cli

    def run(*words):
        monkeypatch.setattr("sys.argv", ["emis", *map(str, words)])
        code = 0
        try:
            cli.main()
        except SystemExit as end:
            code = end.code
        out, err = capsys.readouterr()
        return code, out, err.strip().splitlines()[-1] if err.strip() else ""

    return run
