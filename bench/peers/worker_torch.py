"""PyTorch with diffusers and transformers, one stage, channels-last and eager: a contestant (see protocol.py)."""

from protocol import Replies, matmul_gflops, serve, timed

REPLIES = Replies()

import torch  # noqa: E402

import stages  # noqa: E402
import work  # noqa: E402

DTYPES = {"f32": torch.float32, "bf16": torch.bfloat16}
PROBE = 2048


def main() -> None:
    """Loads, then answers."""
    chosen = work.arguments(__doc__, list(DTYPES))
    torch.set_num_threads(chosen.threads)
    torch.set_grad_enabled(False)
    dtype, job = DTYPES[chosen.precision], chosen.job
    module = stages.load(chosen.held.checkpoint(job.family), job.stage, dtype).to(memory_format=torch.channels_last)
    inputs = [stages.tensor(array, dtype) for array in chosen.held.arrays(job).values()]
    inputs = [each.contiguous(memory_format=torch.channels_last) if each.dim() == 4 else each for each in inputs]
    gflop = chosen.held.gflop(job)
    square = torch.randn(PROBE, PROBE).to(dtype)

    def go() -> dict:
        with torch.inference_mode():
            milliseconds, result = timed(lambda: module(*inputs))
        return {"ms": milliseconds, "gflop": gflop} | work.look(result.float().numpy())

    def peak() -> dict:
        with torch.inference_mode():
            return {"peak_gflops": matmul_gflops(lambda: square @ square, PROBE)}

    ready = {"name": "torch", "version": torch.__version__, "precision": chosen.precision, "threads": chosen.threads}
    ready["isa"] = torch.backends.cpu.get_cpu_capability()
    serve(REPLIES, ready, {"go": go, "peak": peak})


if __name__ == "__main__":
    main()
