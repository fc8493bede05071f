"""The plugin as somebody's test suite sees it."""

from __future__ import annotations

from importlib.metadata import entry_points

import pytest

# What the inner runs have no use for takes most of their time.
PLUGINS = ("-p", "no:cacheprovider", "-p", "no:hypothesispytest", "--assert=plain")

SAGA = """
    import pytest
    from attrs import frozen
    from sagaflow import Context, Saga, State, during, initially


    @frozen
    class Begun:
        job: str


    @frozen
    class Ended:
        job: str


    class Job(Saga, correlate_by="job"):
        open = State()
        closed = State(final=True)
        begin = initially.on(Begun).goto(open)
        end = during(open).on(Ended).goto(closed)

"""


@pytest.fixture
def suite(pytester: pytest.Pytester) -> pytest.Pytester:
    """A directory for a test suite with warnings as errors."""
    pytester.makeini("[pytest]\naddopts = --strict-markers\nfilterwarnings = error\n")
    return pytester


def ran(suite: pytest.Pytester, body: str, **outcomes: int) -> pytest.RunResult:
    suite.makepyfile(SAGA + body)
    result = suite.runpytest_inprocess(*PLUGINS, "-v")
    result.assert_outcomes(**outcomes)
    return result


def nothing_is_installed(name: str) -> None:
    """Say that there is no such module."""


def asyncio_is_installed(name: str) -> str | None:
    """Say that there is no other module."""
    return name if name == "asyncio" else None


def test_plugin_is_declared() -> None:
    (found,) = entry_points(group="pytest11", name="sagaflow")
    assert found.value == "_sagaflow_pytest"


def test_plugin_imports_nothing_of_the_package_until_it_is_used(suite: pytest.Pytester) -> None:
    suite.makepyfile("""
        import sys

        def test_nothing_is_there():
            assert "_sagaflow_pytest" in sys.modules
            assert not {"sagaflow", "motor", "pymongo", "bson"} & set(sys.modules)
    """)
    suite.runpytest_subprocess(*PLUGINS).assert_outcomes(passed=1)


def test_plain_test_runs_on_every_runtime(suite: pytest.Pytester) -> None:
    result = ran(
        suite,
        """
    def test_job(saga_test, saga_clock, saga_runtime):
        job = saga_test(Job)
        job.given(Begun("j-1")).when(Ended("j-1"))
        job.then(state=Job.closed)
        assert job.clock is saga_clock
        assert job._runtime == saga_runtime
    """,
        passed=2,
    )
    result.stdout.fnmatch_lines(["*test_job?asyncio?*", "*test_job?trio?*"])


def test_asynchronous_test_runs_on_every_runtime_without_a_mark(suite: pytest.Pytester) -> None:
    ran(
        suite,
        """
    import sniffio

    async def test_job(async_saga_test, saga_clock, saga_runtime):
        assert sniffio.current_async_library() == saga_runtime
        job = async_saga_test(Job, "j-1")
        await job.given_state(Job.open)
        await job.when(Ended("j-1"))
        job.then(state=Job.closed)
        assert job.clock is saga_clock

    @pytest.mark.anyio
    async def test_runtime(saga_runtime):
        assert sniffio.current_async_library() == saga_runtime
    """,
        passed=4,
    )


def test_mark_chooses_the_runtimes_of_a_test(suite: pytest.Pytester) -> None:
    result = ran(
        suite,
        """
    @pytest.mark.saga_runtimes("trio")
    def test_job(saga_test):
        saga_test(Job).when(Begun("j-1")).then(state=Job.open)
    """,
        passed=1,
    )
    result.stdout.fnmatch_lines(["*test_job?trio?*"])


def test_option_chooses_the_runtimes_of_a_suite(suite: pytest.Pytester) -> None:
    suite.makeini("[pytest]\nsaga_runtimes = asyncio\n")
    result = ran(suite, "    def test_job(saga_runtime): pass\n", passed=1)
    result.stdout.fnmatch_lines(["*test_job?asyncio?*"])


def test_runtime_that_is_not_installed_is_left_out(
    suite: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("_sagaflow_pytest.find_spec", asyncio_is_installed)
    ran(suite, "    def test_job(saga_runtime): pass\n", passed=1)


def test_repository_in_memory_has_the_clock_of_the_test(suite: pytest.Pytester) -> None:
    ran(
        suite,
        """
    from datetime import timedelta

    async def test_job(async_saga_test, memory_repository, saga_clock):
        job = async_saga_test(Job, repository=memory_repository)
        await job.when(Begun("j-1"))
        saga_clock.advance(timedelta(days=1))
        found = [one async for one in memory_repository.find_stale(Job, timedelta(hours=1))]
        assert [one.correlation_id for one in found] == ["j-1"]
    """,
        passed=2,
    )


def test_repository_on_a_server_serves_both_kinds_of_test(
    suite: pytest.Pytester, mongodb_uri: str
) -> None:
    suite.makeini(f"[pytest]\nsaga_mongodb_uri = {mongodb_uri}\nfilterwarnings = error\n")
    ran(
        suite,
        """
    def test_job(saga_test, mongodb_repository):
        job = saga_test(Job, repository=mongodb_repository)
        job.when(Begun("j-1")).when(Ended("j-1"))
        job.then(state=Job.closed)

    async def test_again(async_saga_test, mongodb_repository):
        assert await mongodb_repository.find(Job, "j-1") is None
        job = async_saga_test(Job, repository=mongodb_repository)
        await job.when(Begun("j-1"))
        job.then(state=Job.open)
    """,
        passed=4,
    )


def test_embedded_server_is_started_if_no_other_is_named(
    suite: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SAGAFLOW_TEST_MONGODB_URI", raising=False)
    ran(
        suite,
        """
    @pytest.mark.saga_runtimes("asyncio")
    def test_job(saga_test, mongodb_repository):
        saga_test(Job, repository=mongodb_repository).when(Begun("j-1")).then(exists=True)
    """,
        passed=1,
    )


def test_test_is_skipped_with_the_reason_if_there_is_no_server(
    suite: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SAGAFLOW_TEST_MONGODB_URI", raising=False)
    monkeypatch.setattr("_sagaflow_pytest.find_spec", nothing_is_installed)
    suite.makepyfile("def test_job(mongodb_repository): pass")
    result = suite.runpytest_inprocess(*PLUGINS, "-rs")
    result.assert_outcomes(skipped=1)
    result.stdout.fnmatch_lines(["*pip install 'sagaflow?embedded?'*saga_mongodb_uri*"])


def test_frozen_time_moves_the_system_clock_and_leaves_event_loops_alone(
    suite: pytest.Pytester,
) -> None:
    ran(
        suite,
        """
    from datetime import UTC, datetime, timedelta

    import anyio
    from sagaflow import MemoryRepository, Orchestrator, SystemClock

    async def test_job(frozen_time, saga_runtime, anyio_backend):
        with frozen_time("2030-02-28 12:00") as time:
            await anyio.sleep(0.01)
            repository = MemoryRepository()
            async with Orchestrator([Job], repository) as orchestrator:
                await orchestrator.handle(Begun("j-1"))
            time.tick(timedelta(days=1))
            assert SystemClock().now() == datetime(2030, 3, 1, 12, tzinfo=UTC)
            found = [one async for one in repository.find_stale(Job, timedelta(hours=23))]
            assert found[0].created_at == datetime(2030, 2, 28, 12, tzinfo=UTC)
    """,
        passed=2,
    )


def test_fixtures_and_options_say_what_they_are_for(suite: pytest.Pytester) -> None:
    suite.makepyfile("")
    fixtures = suite.runpytest_inprocess(*PLUGINS, "--fixtures").stdout.str()
    options = suite.runpytest_inprocess(*PLUGINS, "--help").stdout.str()
    marks = suite.runpytest_inprocess(*PLUGINS, "--markers").stdout.str()
    assert "saga_test -- " in fixtures
    assert "saga_mongodb_uri (string)" in options
    assert "saga_runtimes (args)" in options
    assert "@pytest.mark.saga_runtimes(*names)" in marks
