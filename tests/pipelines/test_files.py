import datetime as dt
import gzip
import threading
import time
from decimal import Decimal

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipelines.lake import Lake
from pipelines.sources.files import FileReading, list_files
from pipelines.sources.records import POSITION
from pipelines.sources.streams import UnreadableInputError


@pytest.fixture
def folder(tmp_path):
    path = tmp_path / "logs"
    path.mkdir()
    return path


def read(configured):
    batches = [batch for file in list_files(configured).ready for batch in FileReading(configured, file)]
    return [batch.select(*POSITION, "record") for batch in batches]


def names(configured):
    return [file.path for file in list_files(configured).ready]


def compress(content: bytes, kind: str) -> bytes:
    return bytes(pa.Codec(kind).compress(content, asbytes=True))


def test_a_glob_finds_files_in_order_and_leaves_unfinished_and_hidden_ones(source, folder):
    for name in (
        "b.ndjson",
        "a.ndjson",
        ".hidden.ndjson",
        "_SUCCESS",
        "c.ndjson.tmp",
        "sub/d.ndjson",
        "odd %20 ü.ndjson",
    ):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text("{}\n")
    assert names(source(path=f"{folder}/*.ndjson")) == ["a.ndjson", "b.ndjson", "odd %20 ü.ndjson"]
    assert "sub/d.ndjson" in names(source(path=f"{folder}/**/*.ndjson"))
    assert names(source(path=f"{folder}/nowhere/*.ndjson")) == []


@pytest.mark.parametrize("name", ["a.ndjson", "a.jsonl", "a.ndjson.gz", "a.ndjson.zst", "a.log"])
def test_the_name_tells_format_and_compression(source, folder, name):
    content = b'{"a":1}\n{"b":2}\n'
    kind = {".gz": "gzip", ".zst": "zstd"}.get(name[name.rindex(".") :])
    (folder / name).write_bytes(compress(content, kind) if kind else content)
    assert [record for batch in read(source()) for record in batch["record"]] == ['{"a":1}', '{"b":2}']


def test_an_unknown_ending_is_refused_with_what_to_do(source, folder):
    (folder / "a.xyz").write_text("{}")
    with pytest.raises(UnreadableInputError, match="set `format`"):
        read(source())
    assert len(read(source(format="ndjson"))) == 1


@pytest.mark.parametrize("kind", ["gzip", "zstd"])
def test_a_truncated_archive_is_refused_whole(source, folder, kind):
    content = compress(b'{"a":1}\n' * 5000, kind)
    (folder / f"a.ndjson.{'gz' if kind == 'gzip' else 'zst'}").write_bytes(content[:-5])
    with pytest.raises(UnreadableInputError, match="damaged or cut off"):
        read(source())


def test_a_flipped_bit_in_a_gzip_is_noticed(source, folder):
    content = bytearray(gzip.compress(b'{"a":"some text"}\n' * 50))
    content[-6] ^= 1
    (folder / "a.ndjson.gz").write_bytes(content)
    with pytest.raises(UnreadableInputError):
        read(source())


def test_a_bomb_is_stopped_early(source, folder):
    (folder / "a.ndjson.gz").write_bytes(gzip.compress(b"\n" * 300_000_000, compresslevel=9))
    with pytest.raises(UnreadableInputError, match="200-fold"):
        read(source())


def test_a_manifest_beside_a_file_must_agree(source, folder):
    (folder / "a.ndjson").write_bytes(b'{"a":1}\n')
    (folder / "a.ndjson.sha256").write_text("0" * 64 + "  a.ndjson\n")
    with pytest.raises(UnreadableInputError, match="differs from"):
        read(source(path=f"{folder}/*.ndjson"))


def test_csv_is_text_and_its_misfits_are_reported(source, folder):
    (folder / "a.csv").write_bytes(
        b'\xef\xbb\xbfid,note,id\n1,"two\nlines",x\n2,short\n3,a,b,long\n4,\xff,y\n5,"say ""hi""",z\n'
    )
    good, bad = read(source())
    assert good["record"].to_list() == [
        {"id": "1", "note": "two\nlines", "id_3": "x"},
        {"id": "5", "note": 'say "hi"', "id_3": "z"},
    ]
    assert sorted(bad["problem"].to_list()) == ["malformed", "malformed", "not_utf8"]


def test_a_quote_that_never_closes_refuses_the_file_instead_of_swallowing_it(source, folder):
    (folder / "a.csv").write_text('id,note\n1,"open\n2,b\n3,c\n')
    with pytest.raises(UnreadableInputError, match="opens on line 2 is never closed"):
        read(source())


def test_an_empty_csv_has_no_rows(source, folder):
    (folder / "a.csv").write_text("")
    (folder / "b.csv").write_text("id,note\n")
    assert sum(batch.height for batch in read(source())) == 0


def test_parquet_keeps_its_types_and_a_truncated_one_is_refused(source, folder):
    path = folder / "a.parquet"
    pl.DataFrame({"id": [1], "agent": [{"name": "x"}]}).write_parquet(path)
    assert read(source())[0]["record"].to_list() == [{"id": 1, "agent": {"name": "x"}}]
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(UnreadableInputError, match="not a whole Parquet file"):
        read(source())


def test_a_file_that_is_still_written_to_is_left_for_later(source, folder):
    growing, settled = folder / "growing.ndjson", folder / "settled.ndjson"
    settled.write_text('{"a":1}\n')
    growing.write_text('{"a":1}\n')
    done = threading.Event()

    def keep_writing():
        while not done.is_set():
            with growing.open("a") as file:
                file.write('{"a":2}\n')
            time.sleep(0.02)

    writer = threading.Thread(target=keep_writing)
    writer.start()
    listing = list_files(source(settle_seconds=0.3))
    done.set()
    writer.join()
    assert [file.path for file in listing.ready] == ["settled.ndjson"]
    assert [file.path for file in listing.growing] == ["growing.ndjson"]


@pytest.fixture(scope="module")
def object_store():
    """A server that speaks S3's protocol, with one bucket."""
    boto3 = pytest.importorskip("boto3")
    server_module = pytest.importorskip("moto.server")
    server = server_module.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    options = {
        "endpoint": f"http://{host}:{port}",
        "access_key_id": "a",
        "secret_access_key": "b",
        "region": "us-east-1",
    }
    client = boto3.client(
        "s3",
        endpoint_url=options["endpoint"],
        aws_access_key_id="a",
        aws_secret_access_key="b",
        region_name="us-east-1",
    )
    client.create_bucket(Bucket="bucket")
    yield client, options
    server.stop()


def test_object_storage_is_a_source_like_any_folder(source, object_store):
    client, options = object_store
    client.put_object(Bucket="bucket", Key="logs/2026/a.ndjson.gz", Body=gzip.compress(b'{"a":1}\n'))
    client.put_object(Bucket="bucket", Key="logs/other.txt", Body=b"x")
    configured = source(path="s3://bucket/logs/**/*.ndjson.gz", storage=options)
    assert names(configured) == ["2026/a.ndjson.gz"]
    assert read(configured)[0]["record"].to_list() == ['{"a":1}']


def test_object_storage_is_a_lake_like_any_folder(object_store):
    _, options = object_store
    from conftest import DAY

    from pipelines.lake import Receipt

    lake = Lake("s3://bucket/lake", options)
    part = lake.write("clean", DAY, pl.DataFrame({"a": [1]}))
    lake.commit("clean", DAY, Receipt(parts=[part]))
    assert lake.receipt("clean", DAY, Receipt).rows == 1
    assert lake.days("clean") == [DAY]
    assert lake.read(part)["a"].to_list() == [1]


def test_the_storage_secret_is_not_shown(source):
    assert "hunter2" not in repr(source(storage={"secret_access_key": "hunter2"}))


def test_parquet_types_that_are_no_text_or_number_are_read_as_text(source, folder, tmp_path):
    table = pa.table(
        {
            "id": pa.array([b"\x00\xff", None], pa.binary(2)),
            "cost": pa.array([Decimal("1.5"), None], pa.decimal256(50, 3)),
            "seen": pa.array([dt.time(10, 30), None], pa.time64("us")),
            "deep": pa.array([{"raw": [b"ab"], "n": 1}, None]),
            "plain": pa.array([{"n": [1, 2]}, None]),
        }
    )
    pq.write_table(table, folder / "a.parquet")
    record = read(source(path=f"{tmp_path}/logs/*"))[0]["record"].struct.unnest()
    assert record.row(0, named=True) == {
        "id": "00ff",
        "cost": "1.500",
        "seen": "10:30:00",
        "deep": '{"raw": ["6162"], "n": 1}',
        "plain": {"n": [1, 2]},
    }
    assert record.row(1)[:4] == (None, None, None, None)


def test_csv_columns_that_differ_only_in_case_are_all_read(source, folder, tmp_path):
    (tmp_path / "logs" / "a.csv").write_text("id,ID,Id\n1,2,3\n")
    record = read(source(path=f"{tmp_path}/logs/*.csv"))[0]["record"].struct.unnest()
    assert record.row(0, named=True) == {"id": "1", "ID_2": "2", "Id_3": "3"}


def test_csv_in_utf_16_is_refused_with_what_to_do(source, folder, tmp_path):
    (tmp_path / "logs" / "a.csv").write_bytes("id\n1\n".encode("utf-16"))
    with pytest.raises(UnreadableInputError, match="convert it to UTF-8"):
        read(source(path=f"{tmp_path}/logs/*.csv"))
