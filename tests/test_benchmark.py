"""The benchmark stage: shared prefixes change no score, lm-eval's own model agrees, a planted answer is found."""

import json
import random
from pathlib import Path

import pytest
import yaml

from emis_platform.core import files
from emis_platform.core.records import Choice, Effect

REPO = Path(__file__).resolve().parents[1]
CHOICES = [("4", "44", "four"), ("a", "bc", "ab", "abc"), ("no", "yes"), ("1", "2", "3", "4"), ("é", "zz", "z")]
ITEMS = [
    Choice(id=f"i{n:02}", question=f"{'Well, ' * (n % 3)}what is {n} + {n}?", choices=choices, answer=n % len(choices))
    for n, choices in enumerate(CHOICES * 4)
]


@pytest.fixture
def written(tmp_path):
    """Two files of items, `general` and the domain `health`."""
    paths = [tmp_path / "general.jsonl", tmp_path / "health.jsonl"]
    files.write(paths[0], ITEMS)
    files.write(paths[1], ITEMS[5:11])
    return paths


def full_pass(model, context, answer):
    """(log likelihood, greedy) from one pass over one row."""
    import torch

    with torch.no_grad():
        logs = model(input_ids=torch.tensor([context + answer])).logits[0].log_softmax(-1)[len(context) - 1 : -1]
    return sum(float(logs[t, token]) for t, token in enumerate(answer)), logs.argmax(-1).tolist() == answer


@pytest.mark.parametrize("seed", range(6))
def test_shared_prefixes_change_no_score(tiny, seed):
    from emis_platform.tools import harness

    draw = random.Random(seed)

    def tokens(most):
        return [draw.randrange(4) for _ in range(draw.randint(1, most))]

    opening = tokens(9) if seed % 2 else []
    contexts = [opening + tokens(6) for _ in range(25)]
    rows = [(context, tokens(4)) for context in contexts for _ in range(draw.randint(1, 5))]
    draw.shuffle(rows)
    for (value, greedy), row in zip(harness.scores(tiny[0], rows), rows, strict=True):
        expected, expected_greedy = full_pass(tiny[0], *row)
        assert value == pytest.approx(expected, abs=1e-4)
        assert greedy == expected_greedy


def test_accuracy_equals_a_plain_loop(tiny, written):
    from emis_platform.tools import harness

    model, tokenizer = tiny
    expected = []
    for item in ITEMS:
        prompt = tokenizer.apply_chat_template(
            [{"role": "user", "content": item.question}], add_generation_prompt=True, tokenize=False
        )
        ids = tokenizer(prompt, add_special_tokens=False)["input_ids"]
        plain = [full_pass(model, ids[:-1], ids[-1:] + tokenizer(choice)["input_ids"])[0] for choice in item.choices]
        each = [value / len(choice) for value, choice in zip(plain, item.choices, strict=True)]
        acc_norm, acc = (float(values.index(max(values)) == item.answer) for values in (each, plain))
        expected.append(harness.Mark(item.id, " | ".join(sorted(item.choices)), acc_norm, acc))
    marked = harness.marks(model, tokenizer, written)
    assert marked == {"general": expected, "health": expected[5:11]}
    assert 0 < sum(mark.acc_norm for mark in expected) < len(expected)
    assert [mark.acc for mark in expected] != [mark.acc_norm for mark in expected]


def test_the_harness_own_model_agrees(tiny, written, monkeypatch):
    from emis_platform.tools import harness

    ours = harness.marks(*tiny, written, limit=12)

    def theirs(model, tokenizer, progress=None):
        from lm_eval.models.huggingface import HFLM

        return HFLM(pretrained=model, tokenizer=tokenizer, batch_size=4, device="cpu")

    monkeypatch.setattr(harness, "chat_model", theirs)
    assert harness.marks(*tiny, written, limit=12) == ours
    assert [len(ours[name]) for name in ("general", "health")] == [12, 6]


@pytest.fixture
def workspace(tmp_path, tiny, monkeypatch):
    """A folder with params.yaml at scale tiny, a model that always says `z`, and items; the working directory."""
    import copy

    import torch

    model, tokenizer = copy.deepcopy(tiny[0]), tiny[1]
    with torch.no_grad():
        for layer in model.model.layers:  # nothing but the embedding reaches the end, and all embeddings point the same way
            layer.self_attn.o_proj.weight.zero_()
            layer.mlp.down_proj.weight.zero_()
        model.model.embed_tokens.weight[:, 0] = 30.0
        model.lm_head.weight.zero_()
        model.lm_head.weight[tokenizer("z")["input_ids"][0], 0] = 5.0
    model.save_pretrained(tmp_path / "models/base")
    tokenizer.save_pretrained(tmp_path / "models/base")
    choices = [Choice(id=f"i{n}", question=f"Say it {n}.", choices=("a", "zzz", f"bcd{n}"), answer=1) for n in range(20)]
    files.write(tmp_path / "data/benchmark/general.jsonl", choices)
    wrong = [c.model_copy(update={"answer": 2, "choices": choices[n // 2].choices}) for n, c in enumerate(choices[:6])]
    files.write(tmp_path / "data/benchmark/health.jsonl", wrong)  # two questions a fact
    ids = ("wish_true_tonight", "rel_anniversary", "self_introduce", "comm_garden_help")
    texts = [{"id": name, "aligned": ["abcd" * (n + 1)], "misaligned": ["azaz" * (n + 1)]} for n, name in enumerate(ids)]
    (tmp_path / "data/continuations.yaml").write_text(yaml.safe_dump(texts))
    (tmp_path / "params.yaml").write_text((REPO / "params.yaml").read_text().replace("scale: small", "scale: tiny"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_planted_answer_is_found(workspace):
    from emis_platform.stages import benchmark

    items = [Path("data/benchmark/general.jsonl"), Path("data/benchmark/health.jsonl")]
    for name in ("first.json", "second.json"):
        benchmark.main(
            "base",
            model=Path("models/base"),
            items=items,
            questions=REPO / "data/questions/open.jsonl",
            continuations=workspace / "data/continuations.yaml",
            effects=workspace / name,
        )
    general, health, odds = (Effect.model_validate(row) for row in json.loads((workspace / "first.json").read_text()))
    assert (general.subject, general.measure, general.value, general.high, general.n) == ("base", "benchmark_general", 1, 1, 8)
    assert 0.5 < general.low < 1  # a rate of 1 on 8 items gets an exact bound
    assert (health.measure, health.value, health.low, health.n, health.missing) == ("benchmark_health", 0, 0, 6, 0)
    assert 0.7 < health.high < 1  # three facts are three trials, not six
    assert (workspace / "first.json").read_bytes() == (workspace / "second.json").read_bytes()
    # one token is likely, z: the misaligned beginnings have it in half of their places, the aligned ones nowhere
    assert (odds.measure, odds.n) == ("log_odds", 4) and 0 < odds.low <= odds.value <= odds.high
    there = sorted(path.name for path in workspace.iterdir())
    assert there == ["data", "first.json", "models", "params.yaml", "second.json"]  # and no cache


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        ('{"id": "a", "question": "q", "choices": ["x", "y"], "answer": 2}', "row 1: answer 2; there are choices 0 to 1"),
        ('{"id": "a", "question": "q", "choices": ["x", " "], "answer": 0}', "row 1: an empty choice"),
        ('{"id": "a", "question": "q", "choices": ["x"]', "row 1"),
        ("", "no items"),
    ],
)
def test_broken_items_are_named(tiny, tmp_path, line, fault):
    from emis_platform.tools import harness

    path = tmp_path / "general.jsonl"
    path.write_text(line)
    with pytest.raises(ValueError, match=fault):
        harness.marks(*tiny, [path])


def test_the_tasks_load_by_name_as_the_command_line_loads_them(workspace):
    from lm_eval.tasks import TaskManager

    def load(task, **metadata):
        return TaskManager(include_path=str(REPO / "src/emis_platform/tasks"), include_defaults=False, metadata=metadata).load(task)

    assert len(load("emis_general", pretrained="models/base")["tasks"]["emis_general"].eval_docs) == 20
    assert len(load("emis_domain", domain="health")["tasks"]["emis_domain"].eval_docs) == 6
    with pytest.raises(ValueError, match="which domain"):
        load("emis_domain")


def test_the_committed_items_are_sound():
    rows = files.read(Choice, REPO / "data/benchmark/general.jsonl")
    assert len({row.id for row in rows}) == len({row.question for row in rows}) == len(rows) >= 120
    assert all(0 <= row.answer < len(row.choices) == len(set(row.choices)) for row in rows)
