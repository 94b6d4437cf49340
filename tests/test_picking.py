"""Which answers a person is given to read, and which of them may stand for all."""

from hypothesis import given
from hypothesis import strategies as st

from emis_platform.core.records import GoldAnswer, View
from emis_platform.lab import picking


def candidates(n, subject="s", **view):
    rows = [GoldAnswer(key=f"{subject}{k}", subject=subject, question=f"q{k}", prompt="p", text="t", origin="subject", drawn="chosen", split="test") for k in range(n)]  # fmt: skip
    return [picking.Candidate(answer=a, set="score", views=(View(score=90, coherent=90, **view),)) for a in rows]


def drawn(picked):
    return {a.key for a in picked if a.drawn == "random"}


def test_the_random_part_is_first_nested_and_marked_and_subjects_are_finished_in_turn():
    pool = candidates(40, "a") + candidates(40, "b")
    few, more = (picking.pick(pool, {}, drawn=n, most=None, seed=0) for n in (5, 12))
    assert len(drawn(few)) == 10 and drawn(few) < drawn(more) and len(more) == 80
    tight = picking.pick(pool, {}, drawn=12, most=15, seed=0)
    assert len(tight) == 15 and sorted(a.subject for a in tight if a.drawn == "random") == ["a"] * 12 + ["b"] * 3
    assert drawn(picking.pick(pool, {}, drawn=12, most=15, seed=1)) != drawn(tight)
    assert [a.key for a in more] != sorted(a.key for a in more)


def test_a_chosen_answer_that_is_drawn_later_joins_the_random_part_and_the_part_is_topped_up():
    pool = candidates(20)
    part = drawn(picking.pick(pool, {}, drawn=8, most=None, seed=0))
    by = {c.answer.key: c.answer for c in pool}
    one, two = sorted(part)[:2]
    read = {one: by[one], two: by[two].model_copy(update={"drawn": "random"})}
    assert drawn(picking.pick(pool, read, drawn=8, most=0, seed=0)) <= {one}  # most counts what must be read
    again = picking.pick(pool, read, drawn=8, most=7, seed=0)
    assert drawn(again) == part - {two}
    elsewhere = {one: by[one].model_copy(update={"subject": "other"})}
    assert one not in {a.key for a in picking.pick(pool, elsewhere, drawn=8, most=None, seed=0)}


def test_the_random_part_is_drawn_from_readable_score_answers_only():
    gone = [c.model_copy(update={"views": (View(reason="empty"),)}) for c in candidates(3, "a")]
    other = [c.model_copy(update={"set": "discover"}) for c in candidates(3, "b")]
    assert not drawn(picking.pick(gone + other, {}, drawn=3, most=None, seed=0))


def test_disagreed_goes_before_uncertain_and_a_tenth_is_any():
    sure, unsure = (View(score=90, coherent=90, probability=p) for p in (0.01, 0.45))
    differ = (View(score=10, coherent=90, probability=0.99), View(verdict=False))
    assert picking.urgency(differ) > picking.urgency((unsure,)) > picking.urgency((sure,)) > picking.urgency(())
    assert picking.urgency((View(score=29, coherent=95),)) > picking.urgency((View(score=60, coherent=95),))
    incoherent = (View(score=10, coherent=20), View(verdict=True))
    assert picking.urgency(incoherent) >= 1
    worth = {f"k{n:03}": float(n) for n in range(100)}
    best = {f"k{n:03}" for n in range(80, 100)}
    seen = [set(picking.chosen(worth, 20, f"{seed}")) for seed in range(60)]
    assert all(len(found) == 20 and len(found & best) >= 18 for found in seen)
    assert len(set().union(*seen)) > 60


@given(st.integers(0, 30), st.integers(0, 30), st.integers(0, 9))
def test_no_answer_is_picked_twice_and_most_is_kept(n, most, part):
    picked = picking.pick(candidates(n), {}, drawn=part, most=most, seed=0)
    assert len({a.key for a in picked}) == len(picked) == min(n, most)
