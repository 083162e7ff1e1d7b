"""The harness against mock.py: what it measures, and what it makes of contestants that misbehave."""

import contextlib
import io
import json
import pathlib
import sys
import tempfile
import unittest
from unittest import mock

HERE = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(HERE))

import contestants  # noqa: E402
import lineup  # noqa: E402
import machine  # noqa: E402
import measure  # noqa: E402
import rows  # noqa: E402
import run  # noqa: E402
import table  # noqa: E402

MOCK = f"{sys.executable} {HERE / 'mock.py'}"
BENCH = "bench --model m --precision fast --stage unet --width 64 --height 64 --batch 2 --threads 1 --json --interactive"


def worker(folder: pathlib.Path, name: str = "tintype-fast", limit: float = 20, **env: str) -> contestants.Worker:
    """The mock as a long-lived contestant."""
    return contestants.Worker(name, f"{MOCK} {BENCH}".split(), contestants.environment(1, env), folder / f"{name}.txt", limit)


def turn(contestant: str, number: int, ms: float, foreign: float = 0.0, **more) -> measure.Turn:
    """A made-up turn."""
    given = {"wall_ms": 1000.0, "steal": 0.0, "idlers": 0.0, "load": 0.0, "reply": {}} | more
    return measure.Turn(contestant=contestant, round=number, ms=ms, foreign=foreign, **given)


class Folder(unittest.TestCase):
    """A test with a folder of its own."""

    def setUp(self) -> None:
        holder = tempfile.TemporaryDirectory()
        self.addCleanup(holder.cleanup)
        self.folder = pathlib.Path(holder.name)

    def started(self, *args, **kinds) -> contestants.Worker:
        made = worker(self.folder, *args, **kinds)
        self.addCleanup(made.close)
        made.start()
        return made


class Workers(Folder):
    """One contestant."""

    def test_a_turn_gives_its_time_and_the_probe_its_peak(self) -> None:
        one = self.started(MOCK_MS="50")
        answer = one.turn()
        self.assertGreaterEqual(answer["wall_ms"], answer["ms"])
        self.assertEqual((answer["ms"], answer["gflop"], one.peak()), (50.0, 2.0, 400.0))
        self.assertGreaterEqual(one.cpu_seconds(), 0.04)
        self.assertGreater(one.memory_mib(), 1)

    def test_every_fault_is_named(self) -> None:
        expected = {
            "die": "out of memory",
            "lie": "it reports 1000000.0 ms for a turn of",
            "mute": "no answer within 2 s",
            "garbage": "b'not json', which is no JSON",
        }
        for fault, words in expected.items():
            with self.subTest(fault), self.assertRaises(contestants.Failure) as caught:
                one = worker(self.folder, limit=2 if fault == "mute" else 20, MOCK_FAULT=fault)
                self.addCleanup(one.close)
                one.start()
                if fault == "mute":
                    one.limit = 2
                one.turn()
            self.assertIn(words, str(caught.exception))
        with self.assertRaisesRegex(contestants.Failure, "the first line was"):
            self.started(MOCK_FAULT="unready")

    def test_an_unknown_command_is_an_error(self) -> None:
        with self.assertRaisesRegex(contestants.Failure, "unknown command 'stop', known: go, peak"):
            self.started().ask("stop")

    def test_a_missing_program_is_a_failure(self) -> None:
        one = contestants.Worker("x", ["/no/such/program"], {}, self.folder / "x.txt", 1)
        with self.assertRaisesRegex(contestants.Failure, "does not start"):
            one.start()

    def test_variables_that_change_the_work_are_not_handed_on(self) -> None:
        outside = {"TINTYPE_ISA": "portable", "ONEDNN_MAX_CPU_ISA": "SSE41", "OMP_WAIT_POLICY": "active"}
        with mock.patch.dict("os.environ", outside):
            env = contestants.environment(2, {"TINTYPE_THREADS": "2"})
        self.assertEqual([name for name in outside if name in env], [])
        self.assertEqual((env["OMP_NUM_THREADS"], env["KMP_BLOCKTIME"], env["TINTYPE_THREADS"]), ("2", "0", "2"))

    def test_a_whole_run_counts_from_start_to_end(self) -> None:
        words = f"{MOCK} generate cat --model m --precision fast --width 8 --height 8 --threads 1 --json".split()
        words += f"--sampler ddim --seed 1 --steps 2 --guidance 7.5 --out {self.folder / 'cat.png'}".split()
        one = contestants.Command("x", words, contestants.environment(1, {"MOCK_MS": "60"}), self.folder / "x.txt")
        answer = one.turn()
        self.assertGreater(answer["ms"], 60)
        self.assertGreater(one.cpu_seconds(), 0.05)
        self.assertTrue((self.folder / "cat.png").exists())
        one.command = [*words[:2], "no-such-command"]
        with self.assertRaisesRegex(contestants.Failure, "ended with status 2: .*no-such-command"):
            one.turn()


class Contests(Folder):
    """Several in turns."""

    def test_turns_alternate_and_who_dies_is_out(self) -> None:
        a, b = self.started("a"), self.started("b")
        failures: dict[str, str] = {}
        with mock.patch.object(measure, "MOST_FOREIGN", 1.0), mock.patch.object(measure, "MOST_STEAL", 1.0):
            turns = measure.contest([a, b], 3, 0.0, failures, lambda text: None)
        self.assertEqual([(each.contestant, each.round) for each in turns], [(n, r) for r in range(3) for n in "ab"])
        b.process.kill()
        turns = measure.contest([a, b], 2, 0.0, failures, lambda text: None)
        self.assertEqual({each.contestant for each in turns}, {"a"})
        self.assertIn("b", failures)

    def test_a_waiting_contestant_that_spins_is_seen(self) -> None:
        a, quiet, spins = self.started("a", MOCK_MS="800"), self.started("b"), self.started("c", MOCK_FAULT="spin")
        # On a busy machine the spinner may get little in one turn, a sleeper nothing in any.
        asleep = [measure.take(a, [quiet], number).idlers for number in range(3)]
        awake = [measure.take(a, [quiet, spins], number).idlers for number in range(5)]
        self.assertLess(max(asleep), 0.01)
        self.assertGreater(max(awake), 0.03)

    def test_disturbed_rounds_are_run_again(self) -> None:
        outcomes = iter([turn("a", 0, 1.0, foreign=0.5), turn("a", 1, 1.0), turn("a", 2, 1.0)])
        with mock.patch.object(measure, "take", lambda *_: next(outcomes)):
            turns = measure.contest([mock.Mock()], 2, 0.0, {}, lambda text: None)
        self.assertEqual([each.round for each in turns], [0, 1, 2])

    def test_who_cannot_load_is_left_out(self) -> None:
        failures: dict[str, str] = {}
        able = measure.warm([worker(self.folder, "a"), worker(self.folder, "b", MOCK_FAULT="unready")], failures)
        for one in able:
            self.addCleanup(one.close)
        self.assertEqual(([one.name for one in able], list(failures)), (["a"], ["b"]))


class Figures(unittest.TestCase):
    """Arithmetic."""

    def test_moments_count_steal_apart_from_work(self) -> None:
        moment = machine.Moment.now("cpu  100 20 30 400 50 6 7 80 0 0\ncpu0 ..\n")
        scaled = (moment.busy * machine.TICKS, moment.steal * machine.TICKS, moment.total * machine.TICKS)
        self.assertEqual(tuple(round(value) for value in scaled), (163, 80, 693))

    def test_short_turns_are_given_the_clocks_grain(self) -> None:
        self.assertTrue(turn("a", 0, 10.0, foreign=0.9, wall_ms=10.0).clean)
        self.assertFalse(turn("a", 0, 5000.0, foreign=0.1, wall_ms=5000.0).clean)
        self.assertFalse(turn("a", 0, 5000.0, steal=0.05, wall_ms=5000.0).clean)

    def test_clean_rounds_count_if_they_are_enough(self) -> None:
        turns = [turn("a", number, 1.0, foreign=0.5 if number in (0, 1) else 0.0) for number in range(5)]
        self.assertEqual([each.round for each in measure.kept(turns, 5)[0]], [2, 3, 4])
        self.assertEqual(measure.kept(turns[:4], 5), (turns[:4], False))

    def test_summary_is_median_spread_rate_and_share_of_peak(self) -> None:
        figures = measure.summary([turn("a", n, ms) for n, ms in enumerate((100.0, 400.0, 200.0))], [350.0, None, 450.0], 60.0)
        self.assertEqual((figures["median_ms"], figures["min_ms"], figures["max_ms"]), (200.0, 100.0, 400.0))
        self.assertEqual((figures["gflops"], figures["peak_gflops"], figures["of_peak"]), (300.0, 400.0, 0.75))
        self.assertIsNone(measure.summary([turn("a", 0, 1.0)], [], 60.0)["of_peak"])

    def test_a_bar_is_the_ratio_of_medians(self) -> None:
        bar = rows.Bar(rows.FAST, rows.VINO_BF16, 0.68)
        times = {"tintype-fast": (3.0, 2.0, 9.0), "openvino-bf16": (4.0, 6.0, 5.0)}
        turns = [turn(name, n, ms) for name, values in times.items() for n, ms in enumerate(values)]
        got = measure.verdict(bar, turns, {})
        self.assertEqual((got["ratio"], got["met"], got["paired_ratio"]), (0.6, True, 0.75))
        got = measure.verdict(bar, turns[:3], {"openvino-bf16": "no AVX"})
        self.assertEqual((got["ratio"], got["why"]), (None, "openvino-bf16: no AVX"))

    def test_other_work_is_seen_by_its_result(self) -> None:
        turns = [turn(name, 0, 1.0, reply={"std": std}) for name, std in (("a", 1.0), ("b", 1.02), ("c", 0.5))]
        self.assertEqual({n: round(v, 3) for n, v in measure.differences(turns).items()}, {"a": 0.0, "b": 0.02, "c": 0.5})


class Rows(unittest.TestCase):
    """The table's rows."""

    def test_bars_name_contestants_of_their_row(self) -> None:
        for row in rows.ROWS:
            for bar in row.bars:
                self.assertIn(bar.ours, row.contestants, row.name)
                self.assertIn(bar.peer, row.contestants, row.name)
                self.assertTrue(bar.ours.ours)
        self.assertEqual(len({row.name for row in rows.ROWS}), len(rows.ROWS))

    def test_an_unknown_row_is_refused(self) -> None:
        with self.assertRaisesRegex(SystemExit, "unknown row 'step'; known: step-fast"):
            rows.chosen("step", candle=False)

    def test_candle_joins_where_it_is_asked_for(self) -> None:
        with_candle = {row.name for row in rows.chosen(None, candle=True) if rows.CANDLE in row.contestants}
        self.assertEqual(with_candle, {"step-f32", "decode-f32"})

    def test_candles_output_is_read(self) -> None:
        printed = "text_s 0.63\nload_s 2.20\nstep 1 27.20\ndenoise_s 27.20\ndecode_s 61.60 (mean 0.1)\npeak_mib 6884\n"
        self.assertAlmostEqual(lineup.read_candle_step(printed)["ms"], 27200)
        self.assertAlmostEqual(lineup.read_candle_decode(printed)["ms"], 61600)


class WholeRun(Folder):
    """run.py from its command line to its table, with the mock as Tintype and no peers."""

    def test_writes_table_and_record(self) -> None:
        keys = ["sd15/unet/64x64/2", "sd15/vae/64x64/1", "sd15/text/64x64/2"]
        content = {"checkpoints": {"sd15": "/model"}, "gflop": dict.fromkeys(keys, 2.0), "versions": {"torch": "1"}}
        (self.folder / "work.json").write_text(json.dumps(content))
        out = self.folder / "out"
        words = ["run.py", "--work", str(self.folder), "--out", str(out), "--tintype", MOCK]
        words += ["--rows", "threads-fast,step-fast,picture"]
        words += "--size 64 --steps 3 --rounds 2 --settle 0 --least-memory 1 --without openvino-bf16,openvino-int8,torch-bf16".split()
        with mock.patch.object(sys, "argv", words), contextlib.redirect_stdout(io.StringIO()):
            self.assertEqual(run.main(), 1, "bars without a peer have no figure")
        record = json.loads((out / "peers.json").read_text())
        self.assertEqual([row["row"] for row in record["rows"]], ["step-fast", "picture", "threads-fast"])
        step, whole, threads = record["rows"]
        self.assertIn("left out with --without", step["bars"][0]["why"])
        self.assertAlmostEqual(threads["bars"][0]["ratio"], 0.5)
        self.assertTrue(threads["bars"][0]["met"])
        self.assertEqual(threads["contestants"]["tintype-fast"]["summary"]["of_peak"], 0.5)
        self.assertEqual(whole["contestants"]["tintype-fast"]["summary"]["gflop"], 10.0)
        self.assertIn("SD1.5 64x64, 3 guided steps", whole["title"])
        self.assertEqual(len(record["tintype"]["sha256"]), 64)
        text = (out / "peers.md").read_text()
        self.assertIn("| **0.50** of tintype-fast-1-thread (bar 0.54)", text)
        self.assertIn("| openvino-bf16 | – | – | – | – | – | no figure: left out with --without |", text)
        self.assertEqual(text, table.write(out))


if __name__ == "__main__":
    unittest.main()
