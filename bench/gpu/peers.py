"""The same operations in PyTorch, as the JSON lines of fire_gpu_bench.

    python3 peers.py [--model NAME] [--dtype bf16|f32] [--only TEXT,...] [--quick] [--device cuda] [--out FILE]

Same shapes (shapes.json), same names, same way of timing: buffers rotate through more than the L2 cache holds, events
between the calls, the median of 40. Each operation is the fastest form that PyTorch offers for it: fused AdamW,
torch.compile for what it can fuse, flash and cuDNN attention. Where PyTorch has several, each is a line of its own, and
again named as ours when it is the fastest so far: the last of those counts. What takes long to compile comes last, so
that a run that is cut off has lost the least.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

ROTATED = 256 << 20
Call = Callable[[], object]


@dataclass
class Case:
    """`prepare` makes one set of buffers, its bytes and the call on it."""

    kernel: str
    form: str
    shape: tuple[int, ...]
    prepare: Callable[[], tuple[int, Call]]


class Cases:
    def __init__(self, name: str, spec: dict, dtype: torch.dtype, device: str):
        model, batch = spec["models"][name], spec["batch"]
        self.name, self.dtype, self.device = name, dtype, device
        self.m, self.b, self.r = model, batch, spec["rank"]
        self.prefix = model["image_tokens"] + batch["text"] + batch["common"]
        self.t = batch["images"] * (self.prefix + 2 * batch["tail"])
        self.read = batch["images"] * (2 * batch["phrase"] - 1)
        self.q = model["heads"] * model["head_dim"]

    def rand(self, *shape: int, dtype: torch.dtype | None = None) -> torch.Tensor:
        return torch.rand(shape, device=self.device, dtype=torch.float32).mul_(2).sub_(1).to(dtype or self.dtype)

    def f32(self, *shape: int) -> torch.Tensor:
        return self.rand(*shape, dtype=torch.float32)

    def case(self, kernel: str, form: str, shape: tuple[int, ...], make: Callable[[], tuple[list[torch.Tensor], Call]]) -> Case:
        def prepare() -> tuple[int, Call]:
            tensors, call = make()
            return sum(x.numel() * x.element_size() for x in tensors), call

        return Case(kernel, form, shape, prepare)

    def all(self) -> Iterator[Case]:
        yield from self.rows()
        yield from self.norms()
        h, i, t = self.m["hidden"], self.m["intermediate"], self.t
        for kernel, (k, n), residual in (("q", (h, self.q), False), ("gate", (h, i), False), ("down", (i, h), True)):
            yield from self.linear(f"linear {kernel}", t, n, k, residual)
            yield from self.lora(kernel, t, n, k, residual)
        yield from self.swiglu()
        yield from self.attention()
        yield from self.head()
        yield from self.preference()
        yield from self.adamw()
        yield from self.linear("linear decode", self.b["decode"], i, h, False)
        yield from self.vision()

    def rows(self) -> Iterator[Case]:
        t, h, v = self.t, self.m["hidden"], self.m["vocab"]

        def embedding():
            ids = torch.randint(v, (t,), device=self.device)
            table = self.rand(v, h)
            return [ids, table], lambda: F.embedding(ids, table)

        yield self.case("embedding", "F.embedding", (t, h), embedding)

    def norms(self) -> Iterator[Case]:
        t, h = self.t, self.m["hidden"]

        def forward():
            x, w = self.rand(t, h), self.rand(h)
            return [x, x], lambda: F.rms_norm(x, (h,), w, 1e-6)

        def backward():
            x, w, dy = self.rand(t, h).requires_grad_(), self.rand(h), self.rand(t, h)
            y = F.rms_norm(x, (h,), w, 1e-6)
            return [x, dy, y], lambda: torch.autograd.grad(y, x, dy, retain_graph=True)

        yield self.case("rms_norm", "F.rms_norm", (t, h), forward)
        yield self.case("rms_norm_backward", "F.rms_norm backward, without the residual", (t, h), backward)

    def linear(self, kernel: str, m: int, n: int, k: int, residual: bool) -> Iterator[Case]:
        def make():
            x, w = self.rand(m, k), self.rand(n, k)
            if not residual:
                return [x, w], lambda: F.linear(x, w)
            r, wt = self.rand(m, n), w.t()
            return [x, w, r], lambda: torch.addmm(r, x, wt)

        yield self.case(kernel, "addmm" if residual else "F.linear", (m, n, k), make)

    def lora(self, which: str, m: int, n: int, k: int, residual: bool) -> Iterator[Case]:
        """As PEFT does it: the base layer, then two products, a scale and a sum; adapters in f32 under autocast are read
        as the activation type, so they are that here."""
        r, base = self.r, self.dtype

        def parts():
            x, w = self.rand(m, k), self.rand(n, k)
            a, b = self.rand(r, k), self.rand(n, r)
            return x, w, a, b, (self.rand(m, n) if residual else None)

        def forward_of(x, w, a, b, rest):
            y = F.linear(x, w) + F.linear(F.linear(x, a), b) * 2.0
            return y if rest is None else y + rest

        def forward():
            args = parts()
            return [x for x in args if x is not None], lambda: forward_of(*args)

        def compiled():
            args = parts()
            call = torch.compile(forward_of, dynamic=False)
            return [x for x in args if x is not None], lambda: call(*args)

        def backward():
            x, w, a, b, _ = parts()
            for leaf in (x, a, b):
                leaf.requires_grad_()
            dy = self.rand(m, n)
            y = forward_of(x, w, a, b, None)
            return [x, w, dy, y], lambda: torch.autograd.grad(y, (x, a, b), dy, retain_graph=True)

        shape = (m, n, k, r)
        yield self.case(f"lora_linear {which}", "F.linear + two products", shape, forward)
        if base is torch.bfloat16:
            yield self.case(f"lora_linear {which}", "torch.compile of it", shape, compiled)
        yield self.case(f"lora_linear_backward {which}", "its backward", shape, backward)

    def swiglu(self) -> Iterator[Case]:
        t, i = self.t, self.m["intermediate"]

        def product(gate, up):
            return F.silu(gate) * up

        def make(compile_it: bool):
            def inner():
                gate, up = self.rand(t, i), self.rand(t, i)
                call = torch.compile(product, dynamic=False) if compile_it else product
                return [gate, up], lambda: call(gate, up)

            return inner

        yield self.case("swiglu", "silu and product", (t, i), make(False))
        yield self.case("swiglu", "torch.compile of it", (t, i), make(True))

    def attention(self) -> Iterator[Case]:
        """The two answers of an image as two causal sequences: PyTorch has no attention with a shared prefix, so its keys and
        queries come twice. That is what a trainer without packing pays."""
        images, n, kv, d = 2 * self.b["images"], self.m["heads"], self.m["kv_heads"], self.m["head_dim"]
        length = self.prefix + self.b["tail"]
        shape = (images, n, kv, length, d)

        def inputs():
            return [self.rand(images, heads, length, d) for heads in (n, kv, kv)]

        def attend(q, k, v, backend):
            with sdpa_kernel(backend):
                return F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)

        for form, backend in self.backends():

            def forward(backend=backend):
                q, k, v = inputs()
                return [q, k, v], lambda: attend(q, k, v, backend)

            def backward(backend=backend):
                q, k, v = (x.requires_grad_() for x in inputs())
                o = attend(q, k, v, backend)
                do = torch.rand_like(o)
                return [q, k, v, o], lambda: torch.autograd.grad(o, (q, k, v), do, retain_graph=True)

            yield self.case("attention", form + ", prefix not shared", shape, forward)
            yield self.case("attention_backward", form + ", prefix not shared", shape, backward)

    def backends(self) -> list[tuple[str, SDPBackend]]:
        if self.device == "cpu" or self.dtype is torch.float32:
            return [("math", SDPBackend.MATH)]
        return [("flash", SDPBackend.FLASH_ATTENTION), ("cudnn", SDPBackend.CUDNN_ATTENTION)]

    def head(self) -> Iterator[Case]:
        read, h, v = self.read, self.m["hidden"], self.m["vocab"]

        def forward():
            x, w = self.rand(read, h), self.rand(v, h)
            return [x, w, self.rand(1)], lambda: F.linear(x, w).float()

        def backward():
            dz, w = self.rand(read, v), self.rand(v, h)
            return [dz, w], lambda: dz @ w

        yield self.case("linear head", "F.linear, then float()", (read, v, h), forward)
        yield self.case("linear_backward head", "matmul of gradients in the activation type", (read, v, h), backward)

    def preference(self) -> Iterator[Case]:
        """log_softmax of policy and reference with both KLs, as TRL-style trainers write it; backward goes to the logits."""
        read, v = self.read, self.m["vocab"]

        def loss(z, zr, target):
            p, q = F.log_softmax(z, -1), F.log_softmax(zr, -1)
            forward_kl = (q.exp() * (q - p)).sum(-1)
            reverse_kl = (p.exp() * (p - q)).sum(-1)
            chosen = p.gather(-1, target[:, None]).squeeze(-1) - q.gather(-1, target[:, None]).squeeze(-1)
            return chosen.sum() + forward_kl.sum() + reverse_kl.sum()

        def inputs():
            target = torch.randint(v, (read,), device=self.device)
            return self.f32(read, v).requires_grad_(), self.f32(read, v), target

        def statistics_of(compile_it: bool):
            def inner():
                z, zr, target = inputs()
                z.requires_grad_(False)
                call = torch.compile(loss, dynamic=False) if compile_it else loss
                return [z, zr], lambda: call(z, zr, target)

            return inner

        def both(compile_it: bool):
            def inner():
                z, zr, target = inputs()
                call = torch.compile(loss, dynamic=False) if compile_it else loss
                return [z, zr], lambda: torch.autograd.grad(call(z, zr, target), z)

            return inner

        def log_softmax():
            z = self.f32(read, v)
            return [z], lambda: F.log_softmax(z, -1)

        yield self.case("log_softmax", "F.log_softmax of one of the two", (read, v), log_softmax)
        for form, compile_it in (("eager", False), ("torch.compile", True)):
            yield self.case("preference_statistics", form, (read, v), statistics_of(compile_it))
            yield self.case("preference forward and backward", form, (read, v), both(compile_it))

    def adamw(self) -> Iterator[Case]:
        m, r = self.m, self.r
        kv = m["kv_heads"] * m["head_dim"]
        widths = 2 * (m["hidden"] + self.q) + 2 * (m["hidden"] + kv) + 3 * (m["hidden"] + m["intermediate"])
        count = m["layers"] * r * widths

        def make():
            p = torch.nn.Parameter(self.f32(count))
            p.grad = self.f32(count)
            optimizer = torch.optim.AdamW([p], lr=1e-6, weight_decay=0.0, fused=True)

            def call():
                torch.nn.utils.clip_grad_norm_([p], 1.0)
                optimizer.step()

            return [p, p, p, p], call

        yield self.case("adamw", "clip_grad_norm_ and AdamW(fused=True)", (count,), make)

    def vision(self) -> Iterator[Case]:
        v = self.m["vision"]
        t, h, i, n = v["tokens"], v["hidden"], v["intermediate"], v["heads"]
        d = h // n

        def layer_norm():
            x, w, b = self.rand(t, h), self.rand(h), self.rand(h)
            return [x, x], lambda: F.layer_norm(x, (h,), w, b, 1e-6)

        def gelu():
            x = self.rand(t, i)
            return [x, x], lambda: F.gelu(x, approximate="tanh")

        def fc1():
            x, w, b = self.rand(t, h), self.rand(i, h), self.rand(i)
            return [x, w], lambda: F.linear(x, w, b)

        yield self.case("layer_norm vision", "F.layer_norm", (t, h), layer_norm)
        yield self.case("gelu vision", "F.gelu", (t, i), gelu)
        yield self.case("linear vision fc1", "F.linear", (t, i, h), fc1)
        for form, backend in self.backends():

            def attend(backend=backend):
                q, k, x = (self.rand(1, n, t, d) for _ in range(3))

                def call():
                    with sdpa_kernel(backend):
                        return F.scaled_dot_product_attention(q, k, x)

                return [q, k, x, q], call

            yield self.case("attention vision", form, (t, n, n, d), attend)


def ceilings(device: str, quick: bool) -> Iterator[tuple[Case, float, float]]:
    """The copy and the product that floors are made of: case, bytes, flops."""
    count, side = (1 << 14, 64) if quick else (1 << 28, 8192)

    def copy():
        a = torch.rand(count, device=device)
        b = torch.empty_like(a)
        return 8 * count, lambda: b.copy_(a)

    def product():
        a, b = (torch.rand(side, side, device=device).mul_(2).sub_(1).bfloat16() for _ in range(2))
        return 6 * side * side, lambda: a @ b

    yield Case("copy torch", "copy_", (4 * count,), copy), 8.0 * count, 0.0
    yield Case("gemm torch", "matmul", (side,) * 3, product), 6.0 * side * side, 2.0 * side**3


class Clock:
    """Milliseconds of each call, sorted."""

    def __init__(self, device: str, quick: bool):
        self.device, self.repetitions, self.rotated, self.most_sets = device, *((3, 1, 2) if quick else (40, ROTATED, 64))

    def measure(self, case: Case) -> list[float]:
        size, call = case.prepare()
        sets = [call]
        while len(sets) < min(max(math.ceil(self.rotated / max(size, 1)), 2), self.most_sets):
            sets.append(case.prepare()[1])
        for i in range(max(len(sets), 5)):
            sets[i % len(sets)]()
        if self.device == "cpu":
            times = []
            for i in range(self.repetitions):
                start = time.perf_counter()
                sets[i % len(sets)]()
                times.append(1e3 * (time.perf_counter() - start))
            return sorted(times)
        marks = [torch.cuda.Event(enable_timing=True) for _ in range(self.repetitions + 1)]
        torch.cuda.synchronize()
        for i in range(5):  # the host gets ahead of the GPU
            sets[i % len(sets)]()
        marks[0].record()
        for i in range(self.repetitions):
            sets[i % len(sets)]()
            marks[i + 1].record()
        torch.cuda.synchronize()
        return sorted(a.elapsed_time(b) for a, b in zip(marks, marks[1:]))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="")
    parser.add_argument("--dtype", choices=("bf16", "f32"), default="bf16")
    parser.add_argument("--only", default="", help="parts of the names of operations, with commas between")
    parser.add_argument("--quick", action="store_true", help="tiny shapes: shows that everything runs")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--out", type=argparse.FileType("w"), default=sys.stdout)
    options = parser.parse_args()
    if options.device == "cuda" and not torch.cuda.is_available():
        print("PyTorch sees no GPU", file=sys.stderr)
        return 2
    # f32 stays f32, as in our reference mode; bf16 products sum in f32.
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cuda.matmul.allow_bf16_reduced_precision_reduction = False
    torch.manual_seed(1)
    spec = json.loads(Path(__file__).with_name("shapes.json").read_text())
    spec = spec["quick"] if options.quick else spec
    clock = Clock(options.device, options.quick)
    failed = 0

    def run(case: Case, model: str, dtype: str, extra: dict) -> dict | None:
        nonlocal failed
        line = {"kernel": case.kernel, "model": model, "dtype": dtype, "form": case.form}
        line |= {"shape": "x".join(map(str, case.shape))} | extra
        try:
            times = clock.measure(case)
            middle = statistics.median(times)
            line |= {"median_ms": middle, "min_ms": times[0], "max_ms": times[-1]}
            line |= {"spread": (times[-1] - times[0]) / middle, "repetitions": len(times)}
            print(f"{model} {dtype} {case.kernel}, {case.form}: {middle:.4f} ms", file=sys.stderr)
        except Exception as error:  # one form that this build lacks must not cost the others
            failed += 1
            line["error"] = f"{type(error).__name__}: {error}".splitlines()[0][:300]
            print(f"{model} {dtype} {case.kernel}, {case.form}: {line['error']}", file=sys.stderr)
        if options.device == "cuda":
            torch.cuda.empty_cache()
        return line

    def write(line: dict) -> None:
        options.out.write(json.dumps(line) + "\n")
        options.out.flush()

    for case, moved, flops in ceilings(options.device, options.quick):
        write(run(case, "ceiling", "bf16", {"bytes": moved, "flops": flops}))
    dtype = torch.bfloat16 if options.dtype == "bf16" else torch.float32
    for model in spec["models"]:
        if options.model and options.model != model:
            continue
        best: dict[str, dict] = {}
        cases = Cases(model, spec, dtype, options.device).all()
        chosen = [c for c in cases if any(part in c.kernel for part in options.only.split(","))]
        for case in sorted(chosen, key=lambda c: "torch.compile" in c.form):
            torch._dynamo.reset()
            line = run(case, model, options.dtype, {})
            write(line | {"kernel": f"{case.kernel} ({case.form})"})
            known = best.get(case.kernel)
            if known is None or line.get("median_ms", math.inf) < known.get("median_ms", math.inf):
                best[case.kernel] = line
                write(line)
    return 0


if __name__ == "__main__":
    sys.exit(main())
