from medglean.runs.names import safe_names


def test_ids_that_are_no_file_names_do_not_meet():
    ids = ["../../up", "A", "a", "con", "x" * 300, ".hidden", "ü", "q:1", "q?1", "plain-1.a"]

    names = safe_names(ids)

    assert len({name.casefold() for name in names}) == len(ids)
    assert names == safe_names(ids[::-1])[::-1]
    assert names[-1] == "plain-1.a"
    assert all(len(name) < 100 and "/" not in name and not name.startswith(".") for name in names)
