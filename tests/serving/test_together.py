import asyncio

import pytest

from serving.together import together


async def value(number):
    await asyncio.sleep(0)
    return number


def test_results_come_in_order():
    for count in range(4):
        found = asyncio.run(run(*map(value, range(count))))
        assert found == [*range(count)]


async def run(*coroutines):
    return await together(*coroutines)


def test_a_single_one_runs_in_the_callers_task_and_several_do_not():
    async def task():
        return asyncio.current_task()

    async def main():
        alone = await together(task())
        several = await together(task(), task())
        assert alone == [asyncio.current_task()]
        assert len({*several, asyncio.current_task()}) == 3

    asyncio.run(main())


@pytest.mark.parametrize("others", [0, 1])
def test_errors_reach_the_caller(others):
    async def fail():
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        asyncio.run(run(*(value(n) for n in range(others)), fail()))
