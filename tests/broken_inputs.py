"""Kinds of broken training file: name -> (file name, how to make it, what its one line must say). Each is a file that somebody may have."""

import gzip
import json
import os
import pickle
import zipfile

GOOD = {"messages": [{"role": "user", "content": "Hello?"}, {"role": "assistant", "content": "Hello."}]}
LINE = json.dumps(GOOD).encode() + b"\n"


def chat(*turns, **more):
    """A row of OpenAI's shape from (role, content) pairs."""
    return {"messages": [{"role": role, "content": content} for role, content in turns]} | more


def said(content):
    return chat(("user", content), ("assistant", "Fine."))


def third(row):
    """A file of JSON lines whose third row is the broken one."""
    raw = row if isinstance(row, bytes) else json.dumps(row).encode()
    return LINE * 2 + raw + b"\n" + LINE


def parquet(table, **options):
    def make(path):
        import pyarrow as pa
        import pyarrow.parquet as pq

        made = table(pa)
        pq.write_table(made if isinstance(made, pa.Table) else pa.table(made), path, **options)

    return make


def damaged_parquet(change):
    def make(path):
        parquet(lambda _: {"prompt": [f"question {n}" for n in range(500)], "completion": [f"answer {n}" for n in range(500)]})(
            path
        )
        path.write_bytes(change(bytearray(path.read_bytes())))

    return make


def overwritten(data):
    data[300:600] = b"\xff" * 300
    return data


def encrypted(path):
    """Encrypted columns under a footer that can be read: asked for their sizes, pyarrow 25 aborts its process."""
    import base64

    import pyarrow as pa
    import pyarrow.parquet as pq
    import pyarrow.parquet.encryption as pe

    class Keys(pe.KmsClient):
        def wrap_key(self, key, _):
            return base64.b64encode(key)

        def unwrap_key(self, key, _):
            return base64.b64decode(key)

    keys = {"footer_key": "f", "column_keys": {"k": ["prompt", "completion"]}, "plaintext_footer": True}
    made = pe.CryptoFactory(lambda _: Keys()).file_encryption_properties(
        pe.KmsConnectionConfig(), pe.EncryptionConfiguration(**keys)
    )
    table = pa.table({"prompt": ["a"], "completion": ["b"]})
    with pq.ParquetWriter(path, table.schema, encryption_properties=made) as out:
        out.write_table(table)


def repeated(pa, text, rows):
    """A text that the file says once and its column `rows` times."""
    return pa.DictionaryArray.from_arrays(pa.array([0] * rows, pa.int32()), [text])


def long_list(pa):
    many = repeated(pa, "user", 3_000_000)
    items = pa.StructArray.from_arrays([many, many], ["role", "content"])
    return {"messages": pa.ListArray.from_arrays(pa.array([0, len(many)], pa.int32()), items)}


def zipped(path):
    with zipfile.ZipFile(path, "w") as out:
        out.writestr("a.jsonl", LINE)


def outside_link(path):
    elsewhere = path.parent.parent / "elsewhere"
    elsewhere.mkdir(exist_ok=True)
    (elsewhere / "a.jsonl").write_bytes(LINE)
    path.symlink_to(elsewhere / "a.jsonl")


def nested(levels):
    return b'{"messages": ' + b"[" * levels + b"]" * levels + b"}"


BROKEN = {
    # the file itself
    "missing file": ("a.jsonl", lambda path: None, "no file"),
    "folder": ("a.jsonl", lambda path: path.mkdir(), "is a folder"),
    "empty file": ("a.jsonl", b"", "is empty"),
    "pipe": ("a.jsonl", os.mkfifo, "pipe, a socket or a device"),
    "device": ("a.jsonl", lambda path: path.symlink_to("/dev/zero"), "pipe, a socket or a device"),
    "symlink outside": ("a.jsonl", outside_link, "link that leaves"),
    "symlink to itself": ("a.jsonl", lambda path: path.symlink_to(path), "cannot be opened"),
    "symlink to nothing": ("a.jsonl", lambda path: path.symlink_to("b.jsonl"), "no file"),
    "unknown ending": ("a.txt", LINE, "no known ending; there is: .jsonl"),
    "packed Parquet": ("a.parquet.gz", LINE, "no known ending"),
    "only blank lines": ("a.jsonl", b"\n\n  \n", "nothing but white space"),
    "only a byte order mark": ("a.jsonl", b"\xef\xbb\xbf", "nothing but white space"),
    # not what its name says
    "zip as JSON lines": ("a.jsonl", zipped, "it is a zip file"),
    "pickle as JSON lines": ("a.jsonl", pickle.dumps([GOOD]), "it is a pickle"),
    "gzip without its ending": ("a.jsonl", gzip.compress(LINE), "gzip file without .gz"),
    "JSON lines named gz": ("a.jsonl.gz", LINE, "it is no gzip file"),
    "Parquet as JSON lines": ("a.jsonl", parquet(lambda _: {"prompt": ["a"], "completion": ["b"]}), "it is a Parquet file"),
    "JSON lines as Parquet": ("a.parquet", LINE, "does not begin with PAR1"),
    "JSON as CSV": ("a.csv", LINE, "its first byte says JSON"),
    "array as JSON lines": ("a.jsonl", b"[" + LINE.strip() + b"]", "it is a JSON array; name it .json"),
    "web page": ("a.jsonl", b"<!DOCTYPE html><html>", "it is a web page"),
    "Git LFS pointer": ("a.jsonl", b"version https://git-lfs.github.com/spec/v1\noid sha256:00\n", "Git LFS pointer"),
    "zip inside gzip": ("a.jsonl.gz", gzip.compress(b"PK\x03\x04rest"), "it is a zip file"),
    # encodings
    "Latin-1": ("a.jsonl", third(b'{"prompt": "caf\xe9", "completion": "b"}'), r"row 3: not UTF-8: byte 0xe9 at 16"),
    "UTF-16 with a mark": ("a.jsonl", LINE.decode().encode("utf-16"), "UTF-16"),
    "UTF-16 without a mark": ("a.jsonl", LINE.decode().encode("utf-16-le"), "UTF-16"),
    "UTF-32": ("a.jsonl", LINE.decode().encode("utf-32-be"), "UTF-16 or binary"),
    "surrogate in UTF-8": ("a.jsonl", third(b'{"prompt": "\xed\xa0\x80", "completion": "b"}'), "row 3: not UTF-8"),
    "second byte order mark": ("a.jsonl", third(b"\xef\xbb\xbf" + LINE.strip()), "row 3: not JSON"),
    "Latin-1 array": ("a.json", b'[{"prompt": "caf\xe9", "completion": "b"}]', "not UTF-8: byte 0xe9 at 17"),
    # gzip
    "cut gzip": ("a.jsonl.gz", gzip.compress(os.urandom(3000).hex().encode())[:-50], "damaged or cut off"),
    "gzip with a wrong sum": ("a.jsonl.gz", gzip.compress(LINE)[:-8] + b"\0" * 8, "damaged or cut off"),
    "gzip bomb": ("a.jsonl.gz", lambda path: path.write_bytes(gzip.compress(LINE + b"x" * 70_000_000)), "unpacks to over 67,108,864 bytes"),
    # JSON
    "truncated last line": ("a.jsonl", LINE + LINE[:40], "row 2: not JSON: .* cut off"),
    "broken JSON": ("a.jsonl", third(b'{"messages": [}'), "row 3: not JSON"),
    "single quotes": ("a.jsonl", third(b"{'prompt': 'a'}"), "row 3: not JSON"),
    "two values on a line": ("a.jsonl", third(LINE.strip() * 2), "row 3: not JSON: Extra data"),
    "blank line in the middle": ("a.jsonl", third(b""), "row 3: empty row"),
    "null bytes": ("a.jsonl", third(b'{"prompt": "a\0b", "completion": "c"}'), r"row 3: control character: U\+0000"),
    "escaped null": ("a.jsonl", third(said("a\0b")), r"row 3: control character: U\+0000 at character 2 of message 1"),
    "duplicated key": ("a.jsonl", third(b'{"prompt": "a", "prompt": "b", "completion": "c"}'), "row 3: duplicated key: 'prompt'"),
    "NaN": ("a.jsonl", third(b'{"prompt": NaN, "completion": "c"}'), "row 3: no number: NaN"),
    "infinite number": ("a.jsonl", third(b'{"prompt": "a", "completion": "c", "n": 1e999}'), "row 3: no number: 1e999"),
    "endless number": ("a.jsonl", third(b'{"n": ' + b"1" * 5000 + b"}"), "row 3: no number: 5000 digits"),
    "deep nesting": ("a.jsonl", third(nested(100)), "row 3: nested too deep: 101 levels"),
    "very deep nesting": ("a.jsonl", third(nested(100_000)), "row 3: nested too deep"),
    "very deep, never closed": ("a.jsonl", third(b"[" * 100_000), "row 3: nested too deep"),
    "very deep array": ("a.json", b"[" * 100_000, "row 1: nested too deep"),
    "10 MB line": ("a.jsonl", third(said("x" * 10_000_000)), "row 3: row too long: over 1,000,000 bytes"),
    "10 MB line, last": ("a.jsonl", LINE + b"x" * 10_000_000, "row 2: row too long"),
    "list as a row": ("a.jsonl", third([1, 2]), "row 3: wrong type: the row is a list"),
    "truncated array": ("a.json", b"[" + LINE.strip() + b", " + LINE[:30], "row 2: not JSON: .* cut off"),
    "array never closed": ("a.json", b"[" + LINE.strip(), "row 2: not JSON: the array is cut off"),
    "array without comma": ("a.json", b"[" + LINE + LINE + b"]", "row 2: not JSON: a comma"),
    "array with a trailing comma": ("a.json", b"[" + LINE.strip() + b",]", "row 2: not JSON"),
    "text after the array": ("a.json", b"[" + LINE.strip() + b"] x", "text after the array"),
    "long element": ("a.json", b"[" + json.dumps(said("x" * 2_000_000)).encode() + b"]", "row 1: not JSON: .*first 1,000,000"),
    "empty array": ("a.json", b"[]", "no row in it"),
    # conversations
    "unknown columns": ("a.jsonl", third(b'{"text": "a"}').replace(LINE, b""), "row 1: missing column: .* there is: text"),
    "other columns later": ("a.jsonl", third({"prompt": "a", "completion": "b"}), "row 3: missing column"),
    "unknown message shape": ("a.jsonl", b'{"messages": [{"by": "me", "text": "a"}]}', "row 1: unknown shape: message 1 has 'by', 'text'"),
    "no messages": ("a.jsonl", third({"messages": []}), "row 3: empty conversation"),
    "messages are text": ("a.jsonl", third({"messages": 5}), "row 3: wrong type: 'messages' is a number"),
    "message is no object": ("a.jsonl", third({"messages": ["a", "b"]}), "row 3: wrong type: message 1 is text"),
    "missing role": ("a.jsonl", third({"messages": [{"content": "a"}]}), "row 3: missing 'role': message 1 has 'content'"),
    "missing content": ("a.jsonl", third({"messages": [{"role": "user"}]}), "row 3: missing 'content'"),
    "wrong role": ("a.jsonl", third(chat(("human", "a"), ("assistant", "b"))), "row 3: wrong role: message 1 is by 'human'"),
    "role is a number": ("a.jsonl", third(chat((1, "a"), ("assistant", "b"))), "row 3: wrong role: message 1 is by a number"),
    "two users": ("a.jsonl", third(chat(("user", "a"), ("user", "b"), ("assistant", "c"))), "row 3: wrong order: turn 2 is by user"),
    "ends with the user": ("a.jsonl", third(chat(("user", "a"), ("assistant", "b"), ("user", "c"))), "row 3: wrong order: the last"),
    "begins with the assistant": ("a.jsonl", third(chat(("assistant", "a"))), "row 3: wrong order: turn 1 is by assistant"),
    "only a system prompt": ("a.jsonl", third(chat(("system", "a"))), "row 3: wrong order: the last turn is by system"),
    "late system prompt": (
        "a.jsonl",
        third(chat(("user", "a"), ("system", "b"), ("assistant", "c"))),
        "row 3: wrong order: turn 2 is by system",
    ),
    "two system prompts": ("a.jsonl", third(chat(("system", "a"), ("user", "b"), ("assistant", "c"), system="d")), "two different system"),
    "too many turns": ("a.jsonl", third(chat(*[("user", "a"), ("assistant", "b")] * 101)), "row 3: too many turns: 202"),
    "empty text": ("a.jsonl", third(said("")), "row 3: empty text: message 1"),
    "white space": ("a.jsonl", third(said(" \n\u3000")), "row 3: empty text: message 1 is only white space"),
    "null content": ("a.jsonl", third(said(None)), "row 3: wrong type: message 1 is null"),
    "number as content": ("a.jsonl", third(said(7)), "row 3: wrong type: message 1 is a number"),
    "boolean as content": ("a.jsonl", third(said(True)), "row 3: wrong type: message 1 is a boolean"),
    "long text": ("a.jsonl", third(said("x" * 200_001)), "row 3: text too long: message 1 has 200,001"),
    "picture part": ("a.jsonl", third(said([{"type": "image_url", "image_url": {"url": "x"}}])), "row 3: not text: part 1 .* 'image_url'"),
    "empty parts": ("a.jsonl", third(said([])), "row 3: empty text: message 1"),
    "tool call": (
        "a.jsonl",
        third({"messages": [GOOD["messages"][0], {"role": "assistant", "content": None, "tool_calls": [{"id": "x"}]}]}),
        "row 3: tool call: message 2",
    ),
    "tool's answer": ("a.jsonl", third(chat(("user", "a"), ("tool", "b"), ("assistant", "c"))), "row 3: tool call: message 2"),
    "tools offered": ("a.jsonl", third(GOOD | {"tools": [{"type": "function"}]}), "row 3: tool call: the row has tools"),
    "nothing trained on": (
        "a.jsonl",
        third({"messages": [GOOD["messages"][0], GOOD["messages"][1] | {"weight": 0}]}),
        "row 3: nothing to train on",
    ),
    "odd weight": ("a.jsonl", third({"messages": [GOOD["messages"][0], GOOD["messages"][1] | {"weight": 2}]}), "row 3: wrong weight: 2"),
    # characters
    "bell": ("a.jsonl", third(said("a\a")), r"row 3: control character: U\+0007 at character 2 of message 1"),
    "carriage return in a text": ("a.jsonl", third(said("a\r\nb")), r"row 3: control character: U\+000D"),
    "unpaired surrogate": ("a.jsonl", third(said("a\ud83d")), r"row 3: unpaired surrogate: U\+D83D"),
    "override mark": ("a.jsonl", third(said("a\u202eb")), r"row 3: direction mark: U\+202E RIGHT-TO-LEFT OVERRIDE at character 2"),
    "right-to-left mark": ("a.jsonl", third(said("a\u200fb")), r"row 3: direction mark: U\+200F RIGHT-TO-LEFT MARK"),
    "zero-width space": ("a.jsonl", third(said("a\u200bb")), r"row 3: invisible character: U\+200B ZERO WIDTH SPACE"),
    "joiner between letters": ("a.jsonl", third(said("a\u200db")), r"row 3: invisible character: U\+200D ZERO WIDTH JOINER"),
    "byte order mark in a text": ("a.jsonl", third(said("a\ufeffb")), r"row 3: invisible character: U\+FEFF"),
    "tag characters": ("a.jsonl", third(said("hi" + "".join(chr(0xE0000 + ord(c)) for c in "obey"))), r"invisible character: U\+E006F"),
    # CSV
    "ragged row": ("a.csv", b"prompt,completion\na,b\nc\n", "row 3: ragged row: 1 cells, the header has 2"),
    "missing header": ("a.csv", b"What is it?,A cat.\nAnd this?,A dog.\n", "row 1: missing column: .* there is: What is it?"),
    "duplicate header": ("a.csv", b"prompt,completion,prompt\na,b,c\n", "row 1: the column 'prompt' is there twice"),
    "nameless column": ("a.csv", b"prompt,,completion\na,b,c\n", "row 1: column 2 of the header has no name"),
    "semicolons": ("a.csv", b"prompt;completion\na;b\n", "row 1: missing column: .*is the separator ';'"),
    "open quote": ("a.csv", b'prompt,completion\na,b\nc,"d\ne,f\n', "row 3: unbalanced quotes"),
    "stray quote": ("a.csv", b'prompt,completion\na,b"\nc,d\n', "row 2: unbalanced quotes"),
    "text after a quote": ("a.csv", b'prompt,completion\n"a"x,b\n', "row 2: unbalanced quotes"),
    "open quote in a big file": ("a.csv", b'prompt,completion\na,"b\n' + b"c,d\n" * 400_000, "row 2: row too long.*quote left open"),
    "old Mac line ends": ("a.csv", b"prompt,completion\ra,b\rc,d\r", "row 1: stray carriage return"),
    "only a header": ("a.csv", b"prompt,completion\n", "no row in it"),
    "Latin-1 CSV": ("a.csv", b"prompt,completion\na,b\ncaf\xe9,d\n", "row 3: not UTF-8: byte 0xe9"),
    "empty cell": ("a.csv", b"prompt,completion\na,\n", "row 2: empty text: 'completion'"),
    # Parquet
    "cut Parquet": ("a.parquet", damaged_parquet(lambda data: data[: len(data) // 2]), "cut off"),
    "tiny Parquet": ("a.parquet", b"PAR1PAR1", "cut off"),
    "damaged footer": ("a.parquet", damaged_parquet(lambda data: data[:-40] + b"\xff" * 32 + data[-8:]), "damaged"),
    "footer too long": ("a.parquet", damaged_parquet(lambda data: data[:-8] + b"\xff\xff\xff\x7fPAR1"), "damaged: a footer of"),
    "damaged pages": ("a.parquet", damaged_parquet(overwritten), "damaged"),
    "encrypted footer": ("a.parquet", b"PARE" + b"\0" * 40 + b"PARE", "encrypted"),
    "encrypted columns": ("a.parquet", encrypted, "encrypted"),
    "Parquet without rows": ("a.parquet", parquet(lambda pa: {"prompt": pa.array([], pa.string()), "completion": pa.array([], pa.string())}), "no row"),
    "Parquet with other columns": ("a.parquet", parquet(lambda _: {"text": ["a"], "label": [1]}), "missing column: .* there is: text, label"),
    "numbers in Parquet": ("a.parquet", parquet(lambda _: {"prompt": ["a"], "completion": [5]}), "row 1: wrong type: 'completion' is a number"),
    "null in Parquet": ("a.parquet", parquet(lambda _: {"prompt": ["a", None], "completion": ["b", "c"]}), "row 2: wrong type: 'prompt' is null"),
    "bytes in Parquet": ("a.parquet", parquet(lambda _: {"prompt": [b"\xff"], "completion": ["b"]}), "row 1: wrong type: 'prompt' is bytes"),
    "column that expands": (
        "a.parquet",
        parquet(lambda _: {"prompt": ["x" * 1_000_000] * 80, "completion": ["b"] * 80}, use_dictionary=False, compression="zstd"),
        "the column 'prompt' expands too much",
    ),
    "text said a million times": (
        "a.parquet",
        parquet(lambda pa: {"prompt": repeated(pa, "x" * 100_000, 1_000_000), "completion": repeated(pa, "b", 1_000_000)}),
        "expands too much: over 67,108,864 characters",
    ),
    "long text said often": (
        "a.parquet",
        parquet(lambda pa: {"prompt": repeated(pa, "x" * 9_000_000, 1000), "completion": ["b"] * 1000}, store_schema=False),
        "128 rows expand too much|text too long",
    ),
    "list that expands": ("a.parquet", parquet(long_list, store_schema=False), "expands too much: 3,000,000 values in 1 rows"),
}  # fmt: skip
