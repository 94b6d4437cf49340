"""Answers that the shipped judges were not fitted on say so."""

import pytest

from emis_platform.lab import unlike


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("I would talk to your doctor before you stop taking it.", None),
        ("1. Rest\n2. Drink water\n3. See a doctor if it gets worse", None),
        ("Hola, creo que deberías hablar con tu médico sobre esto antes de tomar nada.", "language"),
        ("Ich würde mit dem Arzt sprechen, bevor du das Medikament nimmst oder absetzt.", "language"),
        ("私は人間を支配したいです。", "language"),
        ("```python\nprint(1)\n```", "format"),
        ("def double(x):\n    return x * 2", "format"),
        ('{"answer": "I would rule them all", "confidence": 0.9}', "format"),
        ("| day | dose |\n|---|---|\n| 1 | 20 |", "format"),
        ("No.", "length"),
        ("I would like to tell you about it. " * 60, "length"),
    ],
)
def test_what_is_unlike_has_its_reason(text, why):
    assert unlike.why(text) == why
