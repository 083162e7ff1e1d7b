"""OpenVINO on the CPU with static shapes, one stage: a contestant (see protocol.py). No torch in the process."""

from protocol import Replies, matmul_gflops, serve, timed

REPLIES = Replies()

import numpy as np  # noqa: E402
import openvino  # noqa: E402

import vino  # noqa: E402
import work  # noqa: E402

PROBE = 2048


def main() -> None:
    """Loads, then answers."""
    chosen = work.arguments(__doc__, list(vino.HINTS))
    job = chosen.job
    inputs = chosen.held.arrays(job)
    folder = chosen.held.folder / job.family
    model = vino.compiled(vino.file(folder, job.stage, chosen.precision), inputs, chosen.precision, chosen.threads)
    request = model.create_infer_request()
    gflop = chosen.held.gflop(job)
    multiply = probe(chosen.precision, chosen.threads)

    def go() -> dict:
        milliseconds, results = timed(lambda: request.infer(inputs, share_inputs=True, share_outputs=True))
        return {"ms": milliseconds, "gflop": gflop} | work.look(results[0])

    def peak() -> dict:
        return {"peak_gflops": matmul_gflops(multiply, PROBE)}

    ready = {"name": "openvino", "version": openvino.get_version(), "precision": chosen.precision}
    ready |= {"threads": model.get_property("INFERENCE_NUM_THREADS"), "streams": model.get_property("NUM_STREAMS")}
    ready |= {"inference_precision": str(model.get_property("INFERENCE_PRECISION_HINT")), "ops": vino.kinds(model)}
    serve(REPLIES, ready, {"go": go, "peak": peak})


def probe(precision: str, threads: int):
    """A compiled product of two square matrices, one of them constant, in the contestant's own settings. For int8 it is
    the bf16 product: percentages above 100 are possible there."""
    from openvino import opset13 as ops

    numbers = np.random.default_rng(0).standard_normal((PROBE, PROBE), dtype=np.float32)
    left = ops.parameter([PROBE, PROBE], np.float32)
    model = openvino.Model([ops.matmul(left, ops.constant(numbers), False, True)], [left])
    request = openvino.Core().compile_model(model, "CPU", vino.settings(precision, threads)).create_infer_request()
    return lambda: request.infer([numbers], share_inputs=True, share_outputs=True)


if __name__ == "__main__":
    main()
