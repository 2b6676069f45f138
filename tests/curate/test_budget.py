import pytest

from medglean.curate.budget import check_start, count_of, default_start
from medglean.errors import UsageError


@pytest.mark.parametrize(
    ("text", "n", "expected"),
    [
        ("200", 1248, 200),
        (200, 1248, 200),
        ("1_000", 5000, 1000),
        ("44%", 45_460, 20_002),  # 20,002.4
        ("44 %", 100, 44),
        ("2.5%", 100, 3),  # 2.5: halves up
        ("0.44", 100, 44),
        (0.44, 100, 44),
        (1e-5, 10, 1),
        (".5", 10, 5),
        ("0.001%", 10, 1),  # at least one image
        ("100%", 7, 7),
        ("1", 7, 1),
        (7, 7, 7),
    ],
)
def test_numbers_and_shares(text, n, expected):
    assert count_of(text, n) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (0, "budget must be above 0, got 0"),
        ("0%", "budget must be above 0, got 0%"),
        ("0.0", "budget must be above 0, got 0.0"),
        (-3, "budget must be above 0, got -3"),
        ("-3%", "above 0, got -3%"),
        (11, "budget is 11, and there are 10 images. Ask for at most 10"),
        ("101%", "at most 100 %, got 101%"),
        ("many", "budget must be a number, got 'many'. Write a number of images such as 200"),
        ("", "must be a number, got ''"),
        ("%", "must be a number, got '%'"),
        ("1e2", "must be a number, got '1e2'"),
        (float("nan"), "must be a number, got nan"),
        (True, "must be a number, got True"),
        (1.0, "budget is 1.0: neither a whole number of images nor a share below 1"),
        ("2.5", "budget is 2.5: neither a whole number"),
    ],
)
def test_bad_budgets_are_refused(text, message):
    with pytest.raises(UsageError, match=message.replace("(", r"\(")):
        count_of(text, 10)


def test_the_name_is_told():
    with pytest.raises(UsageError, match=r"start is 11, and there are 10 frames"):
        count_of(11, 10, name="start", whole="frames")


def test_a_budget_below_the_start_is_refused_and_told_what_to_do():
    check_start(100, 100)
    with pytest.raises(
        UsageError,
        match=r"budget is 100 images, and 1,000 are .* Raise .* above 1,000, .* \(such as 10,",
    ):
        check_start(100, 1000)


@pytest.mark.parametrize(("budget", "start"), [(1, 1), (45, 4), (20_000, 1000), (30_000, 1000)])
def test_default_start_is_a_tenth_of_the_budget(budget, start):
    assert default_start(budget) == start
    check_start(budget, start)
