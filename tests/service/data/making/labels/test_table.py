"""Labels in a CSV, and in CelebA's own table."""

import pytest

from progan_service.data.errors import DatasetError
from progan_service.data.making.labels.labels import Labels
from progan_service.data.making.labels.read import open_labels

PICTURES = ["img/a.png", "img/b.png", "img/c.png"]


def read(content: str | bytes, pictures: list[str] = PICTURES, name: str = "table.csv") -> Labels:
    encoded = content if isinstance(content, bytes) else content.encode()
    return open_labels(name, {name: lambda: encoded}).of(pictures)


def refusal(content: str | bytes, pictures: list[str] = PICTURES, name: str = "table.csv") -> str:
    with pytest.raises(DatasetError) as refused:
        read(content, pictures, name)
    return str(refused.value)


# Classes


def test_one_column_of_names_is_classes() -> None:
    labels = read("file,kind\nimg/c.png,dog\nimg/a.png,cat\nimg/b.png,dog\n")
    assert (labels.kind, labels.names) == ("classes", ("cat", "dog"))
    assert labels.values.tolist() == [[1, 0], [0, 1], [0, 1]]
    assert labels.values.dtype == "float32"


def test_numbers_are_sorted_as_numbers() -> None:
    assert read("file,label\na.png,10\nb.png,9\nc.png,010\n").names == ("9", "010", "10")


def test_names_may_hold_commas_quotes_and_any_letters() -> None:
    labels = read('file,kind\na.png,"cat, big"\nb.png,"say ""miau"""\nc.png,größer 猫\n')
    assert labels.names == ("cat, big", "größer 猫", 'say "miau"')


@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
@pytest.mark.parametrize("line_end", ["\n", "\r\n"])
def test_excel_writes_a_mark_and_carriage_returns(mark: bytes, line_end: str) -> None:
    text = line_end.join(["file,kind", "a.png,Käse", "b.png,dog", "c.png,dog", ""])
    assert read(mark + text.encode()).names == ("Käse", "dog")


def test_a_letter_is_the_same_however_unicode_writes_it() -> None:
    composed, decomposed = "\u00e9", "e\u0301"
    labels = read(
        f"file,kind\n{composed}.png,caf{composed}\nb.png,caf{decomposed}\nc.png,bar\n",
        [f"{decomposed}.png", "b.png", "c.png"],
    )
    assert labels.names == ("bar", "caf\u00e9")


# Attributes


def test_several_columns_of_zeros_and_ones_are_attributes() -> None:
    labels = read("file,glasses,smile\na.png,0,1\nb.png,1,1\nc.png,0,0\n")
    assert (labels.kind, labels.names) == ("attributes", ("glasses", "smile"))
    assert labels.values.tolist() == [[0, 1], [1, 1], [0, 0]]


@pytest.mark.parametrize(("no", "yes"), [("-1", "1"), ("0.0", "1.0"), ("False", "True"), (" 0", " 1")])
def test_other_ways_to_write_yes_and_no(no: str, yes: str) -> None:
    labels = read(f"file,glasses,smile\na.png,{no},{yes}\nb.png,{yes},{yes}\nc.png,{no},{no}\n")
    assert labels.values.tolist() == [[0, 1], [1, 1], [0, 0]]


def test_celeba_has_the_count_first_and_columns_of_spaces() -> None:
    text = "3\nBald Eyeglasses Smiling \na.png -1  1 -1\nb.png  1  1  1\nc.png -1 -1  1\n"
    labels = read(text, name="list_attr_celeba.txt")
    assert (labels.kind, labels.names) == ("attributes", ("Bald", "Eyeglasses", "Smiling"))
    assert labels.values.tolist() == [[0, 1, 0], [1, 1, 1], [0, 0, 1]]


def test_celeba_of_kaggle_is_a_csv() -> None:
    text = "image_id,Bald,Smiling\r\na.png,-1,1\r\nb.png,1,-1\r\nc.png,-1,-1\r\n"
    assert read(text, name="list_attr_celeba.csv").values.tolist() == [[0, 1], [1, 0], [0, 0]]


# Which picture is meant


def test_a_picture_is_named_by_its_path_or_the_end_of_it() -> None:
    pictures = ["x/cat/1.png", "x/dog/1.png", "1.png", "x/2.v1.jpg"]
    lines = ["x/cat/1.png,a", "dog\\1.png,b", "./1.png,c", "2.v1,d"]
    assert read("\n".join(["file,kind", *lines]), pictures).values.argmax(axis=1).tolist() == [0, 1, 2, 3]


def test_lines_and_pictures_that_do_not_fit_are_all_named() -> None:
    pictures = ["x/1.png", "y/1.png", "x/2.png", "x/3.png"]
    lines = ["2.png,a", "x/2.png,b", "1.png,a", "4.png,a", "sub/3.png,a"]
    assert refusal("\n".join(["file,kind", *lines]), pictures).splitlines() == [
        "table.csv: cannot be used as labels:",
        "  lines of a picture that has one already (1):",
        "    line 3: x/2.png (line 2)",
        "  lines that may mean several pictures: give their paths (1):",
        "    line 4: 1.png (x/1.png, y/1.png)",
        "  lines whose picture is not there (2):",
        "    line 5: 4.png",
        "    line 6: sub/3.png",
        "  pictures without a label (3):",
        "    x/1.png",
        "    y/1.png",
        "    x/3.png",
    ]


def test_of_many_the_first_twenty_are_named_and_all_are_counted() -> None:
    lines = refusal("file,kind\n0.png,a\n", [f"{number}.png" for number in range(26)]).splitlines()
    assert (len(lines), lines[1:3]) == (23, ["  pictures without a label (25):", "    1.png"])
    assert lines[-2:] == ["    20.png", "    … and 5 more"]


def test_names_that_cannot_be_printed_are_escaped() -> None:
    assert "line 2: \\x1b[2Jx.png" in refusal("file,kind\n\x1b[2Jx.png,a\na.png,a\nb.png,b\nc.png,b\n")
    assert "    \\xe4.png" in refusal("file,kind\na.png,b\n", ["a.png", "\udce4.png"])


# What is no table of labels


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("file;kind\na.png;cat\n", "its columns are separated by semicolons: save it with commas"),
        ("file\tkind\na.png\tcat\n", "its columns are separated by tabs: save it with commas"),
        ("a.png,cat\nb.png,dog\n", "its first line is 'a.png,cat': it must name the columns, that of the files first"),
        (",file,kind\n0,a.png,cat\n", "its first line is ',file,kind': it must name the columns"),
        ("", "its first line is '': it must name the columns"),
        ("file\na.png\n", "its first line is 'file': it must name the columns"),
        ("file,kind\na.png\n", "line 2 has 1 cells, and 2 columns have names"),
        ('file,kind\na.png,"cat\n', "line 2 is no CSV: unexpected end of data"),
        (
            "file,kind\na.png,cat\x00\nb.png,a\nc.png,a\n",
            "that are no printable text of at most 100 characters (1):\n    cat\\x00",
        ),
        (b"\xff\xfef\x00i\x00", "is no UTF-8 text ('utf-8' codec can't decode byte 0xff"),
        ("file,kind\na.png,Gr\xfcn\n".encode("latin-1"), "is no UTF-8 text"),
        ("file,glasses,\na.png,0,1\nb.png,0,1\nc.png,0,1\n", "labels without a name (1):\n    column 2"),
        ("file,a,b,a\na.png,0,1,0\nb.png,0,1,0\nc.png,0,1,0\n", "names that several labels have (1):\n    a"),
        ("file,kind\na.png,cat\nb.png,cat\nc.png,cat\n", "all pictures have the class 'cat': labels need two or more"),
        ("file,kind\na.png,cat\nb.png,\nc.png,NaN\n", "pictures without a label (2):\n    img/b.png\n    img/c.png"),
        (
            "file,a,b\na.png,0,yes\nb.png,nan,1\nc.png,0,2\n",
            "values that are not 0 or 1, or -1 or 1 (one column of names would be classes) (3):\n"
            "    line 2: b is 'yes'\n    line 3: a is 'nan'\n    line 4: b is '2'",
        ),
        ("file,a,b\na.png,0,1\nb.png,-1,1\nc.png,0,1\n", "has values of 0 and of -1"),
        ("4\na b\na.png 1 1\n", "promises 4 pictures and lists 1: is it whole?"),
        ("1\n", "promises 1 pictures and lists 0"),
        ("1\na b\na.png 1\n", "line 3 has 2 cells, and 3 columns have names"),
        ("9" * 5000 + "\na b\na.png 1 1\n", "it must name the columns"),
    ],
)
def test_what_is_no_table_of_labels_is_refused(content: str | bytes, says: str) -> None:
    message = refusal(content)
    assert message.startswith("table.csv: ")
    assert says in message


def test_a_column_of_ids_makes_no_classes() -> None:
    pictures = [f"{i}.png" for i in range(40_000)]
    message = refusal("file,id\n" + "".join(f"{name},id{name}\n" for name in pictures), pictures)
    assert message == (
        "table.csv: 40000 different labels for 40000 pictures: at most 65536 labels, and 4 GiB of 4 bytes a picture "
        "and label, can be used"
    )
