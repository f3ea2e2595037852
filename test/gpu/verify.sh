#!/usr/bin/env bash
# Everything that only a GPU can say, in one command: kernel tests, golden folders, compute-sanitizer, instruction
# goldens, timings. Needs nvcc, cmake, g++; uses ninja, compute-sanitizer and a python3 with torch where there are such.
# Leaves clocks, power limits and MIG as they are.
#
#   test/gpu/verify.sh [quick|full] [--out DIR] [--build DIR]
#
# quick  memcheck and racecheck, timings of the first model in bf16; at most 8 minutes
# full   the rest as well: all sanitizer tools, both models, f32; at most 50 minutes
# FIRE_GPU_SECONDS sets another limit. A test that has no time left counts as failed; sanitizer and PyTorch are left out
# then, and said to be.
#
# OUT (build/gpu-results) receives log.txt, build.txt, results.json, wrapper_goldens.txt, kernels.jsonl, peers.jsonl. Commit
# results.json as bench/results/gpu-<name>.json and wrapper_goldens.txt as test/gpu/wrapper_goldens.txt.
# The last line is `N passed, N failed`; the exit status is 1 when anything failed.
set -u -o pipefail

mode=quick out=build/gpu-results build=build/gpu
while [ $# -gt 0 ]; do
  case $1 in
    quick | full) mode=$1 ;;
    --out | --build)
      [ $# -gt 1 ] || { echo "$1 needs a folder"; exit 2; }
      if [ "$1" = --out ]; then out=$2; else build=$2; fi
      shift ;;
    *) echo "usage: test/gpu/verify.sh [quick|full] [--out DIR] [--build DIR]"; exit 2 ;;
  esac
  shift
done
mkdir -p "$out" || exit 2
out=$(cd "$out" && pwd)
cd "$(dirname "$0")/../.." || exit 2
mkdir -p "$build" || exit 2
build=$(cd "$build" && pwd)
rm -f "$out"/{log.txt,build.txt,results.json,wrapper_goldens.txt,kernels.jsonl,peers.jsonl}
log=$out/log.txt facts=$build/facts.txt
: >"$facts"
passed=0 failed=0
deadline=${FIRE_GPU_SECONDS:-$([ $mode = full ] && echo 3000 || echo 480)}

say() { printf '%s\n' "$*" | tee -a "$log"; }
fact() { printf '%s=%s\n' "$1" "$(printf '%s' "$2" | tr '\n\r' '  ')" >>"$facts"; }
pass() { passed=$((passed + $1)); }
fail() { failed=$((failed + $1)); }

# left SECONDS: the seconds that a step may take, at most so many; none when hardly any are left.
left() {
  local rest=$((deadline - SECONDS))
  [ $rest -ge 15 ] || return 1
  echo $((rest < $1 ? rest : $1))
}
# step KEY SECONDS COMMAND...: runs it into the log with a time limit. Programs that end with `N passed, N failed` are
# counted so, others as one. Returns the command's own status; its output stays in $step_output.
step_output=$build/step.txt
step() {
  local key=$1 limit begin=$SECONDS status counts good=0 bad=0
  limit=$(left "$2") || { fail 1; say "FAILED $key: out of time"; fact "tests.$key" "out of time"; return 1; }
  shift 2
  printf '\n== %s: %s\n' "$key" "$*" >>"$log"
  timeout -k 10 "$limit" "$@" >"$step_output" 2>&1
  status=$?
  cat "$step_output" >>"$log"
  counts=$(tail -n 1 "$step_output" | grep -E '^[0-9]+ passed, [0-9]+ failed$')
  if [ -n "$counts" ]; then
    good=${counts%% passed*} bad=${counts#*, } bad=${bad%% *}
  elif [ $status -eq 0 ]; then
    good=1
  fi
  if [ $status -ne 0 ] && [ "$bad" -eq 0 ]; then bad=1; fi
  pass "$good"
  fail "$bad"
  local verdict="$good passed, $bad failed"
  [ $status -eq 124 ] && verdict="$verdict (stopped after $limit s)"
  say "$(printf '%-34s %4d s  %s' "$key" $((SECONDS - begin)) "$verdict")"
  fact "tests.$key" "$verdict"
  [ "$bad" -eq 0 ] || tail -n 25 "$step_output" | sed 's/^/    /'
  return $status
}
skip() {
  say "SKIPPED $1: $2"
  fact "skipped.$1" "$2"
}

write_report() {
  touch "$out/kernels.jsonl" "$out/peers.jsonl"
  { cat "$facts" && echo "tests.passed=$passed" && echo "tests.failed=$failed"; } >"$facts.all"
  "$build/fire_gpu_bench" --report "$facts.all" "$out/kernels.jsonl" "$out/peers.jsonl" --out "$out/results.json" \
    >"$build/report.txt" 2>&1
}

# --- 1. where am I ------------------------------------------------------------------------------------------------------
query() { nvidia-smi --query-gpu="$1" --format=csv,noheader 2>/dev/null | head -n 1; }
hash_of() { LC_ALL=C sort | xargs -r sha256sum | sha256sum | cut -c1-16; }
commit=${FIRE_COMMIT:-$(git rev-parse HEAD 2>/dev/null || echo unknown)}
dirty=null
if git rev-parse HEAD >/dev/null 2>&1; then
  [ -z "$(git status --porcelain -- . ':!bench/results')" ] && dirty=false || dirty=true
fi
sources=$(find cuda native bench/gpu test/cuda test/ops test/gpu CMakeLists.txt cmake -type f \
  \( -name '*.cu' -o -name '*.cuh' -o -name '*.h' -o -name '*.cpp' -o -name '*.cmake' -o -name '*.txt' -o -name '*.json' \) \
  ! -name wrapper_goldens.txt | hash_of)
fact benchmark gpu
fact command "test/gpu/verify.sh $mode"
fact date "$(date -u +%Y-%m-%dT%H:%M:%SZ)"
fact commit.sha "$commit"
fact commit.dirty "$dirty"
fact sources.all "$sources"
# One hash a kernel source, so that a reader can tell which results are older than the code.
while read -r file; do fact "sources.$(basename "$file" | tr . _)" "$(sha256sum "$file" | cut -c1-16)"; done \
  < <(find cuda -name '*.cu' -o -name '*.cuh' | LC_ALL=C sort)
fact machine.gpu "$(query name)"
fact machine.driver "$(query driver_version)"
fact machine.memory "$(query memory.total)"
fact machine.nvcc "$(nvcc --version 2>/dev/null | sed -n 's/.*release \([0-9.]*\),.*/\1/p')"
fact machine.compiler "$(g++ -dumpfullversion 2>/dev/null)"
fact machine.kernel "$(uname -sr)"
fact machine.cores "$(nproc)"
say "$(query name), driver $(query driver_version), nvcc $(sed -n 's/^machine.nvcc=//p' "$facts"), $(uname -sr)"
say "commit $commit, sources $sources, $mode"
nvidia-smi -L >>"$log" 2>&1

# cuBLASLt is optional and opened by name; the loader does not know every place where a toolkit may lie.
if [ -z "${FIRE_CUBLASLT_LIB:-}" ]; then
  FIRE_CUBLASLT_LIB=$({
    ldconfig -p 2>/dev/null | awk '/libcublasLt\.so/ { print $NF }'
    ls /usr/local/cuda*/lib64/libcublasLt.so.1[23] /usr/local/cuda*/targets/*/lib/libcublasLt.so.1[23] 2>/dev/null
    python3 -c 'import glob, nvidia; [print(f) for p in nvidia.__path__ for f in glob.glob(p + "/**/libcublasLt.so.1[23]", recursive=True)]' 2>/dev/null
  } | head -n 1)
  if [ -n "$FIRE_CUBLASLT_LIB" ]; then export FIRE_CUBLASLT_LIB; fi
fi
fact machine.cublaslt "${FIRE_CUBLASLT_LIB:-none}"

# --- 2. build -----------------------------------------------------------------------------------------------------------
generator=()
command -v ninja >/dev/null && generator=(-G Ninja)
# For this GPU alone: 90a is what the kernels want of a Hopper.
capability=$(query compute_cap | tr -d .)
[ "$capability" = 90 ] && capability=90a
make_programs() {
  [ -n "$capability" ] && set -- "-DFIRE_CUDA_ARCHITECTURES=$capability-real"
  # An older folder may hold the other generator.
  [ -f "$build/CMakeCache.txt" ] || set -- "$@" "${generator[@]}"
  cmake -S . -B "$build" "$@" -DCMAKE_BUILD_TYPE=Release -DFIRE_CUDA=ON -DFIRE_BUILD_TESTS=ON || return 1
  cmake --build "$build" --parallel "$(nproc)" --target gpu_programs
}
begin=$SECONDS
if make_programs >"$out/build.txt" 2>&1; then
  pass 1
  say "$(printf '%-34s %4d s  1 passed, 0 failed' build $((SECONDS - begin)))"
  fact tests.build "1 passed, 0 failed"
else
  fail 1
  grep -n -E 'error|Error' "$out/build.txt" | head -n 20
  say "build failed after $((SECONDS - begin)) s, see $out/build.txt"
  say "$passed passed, $failed failed"
  exit 1
fi

# --- 3. kernel tests, three times: a result that changes is a race ------------------------------------------------------
for run in 1 2 3; do step "kernel_tests_$run" 240 "$build/cuda_test"; done

# --- 4. whole models against PyTorch's numbers --------------------------------------------------------------------------
golden=(test/golden/*/golden.json)
for dtype in f32 bf16; do
  for folder in "${golden[@]%/golden.json}"; do
    step "golden_$(basename "$folder")_$dtype" 120 "$build/fire_verify" "$folder" --device cuda --dtype $dtype
  done
done
if [ -n "${FIRE_CUBLASLT_LIB:-}" ]; then
  step golden_qwen3_vl_cublaslt 120 "$build/fire_verify" test/golden/qwen3_vl --device cuda --dtype bf16 --gemm cublaslt
else
  skip golden_cublaslt "no libcublasLt was found"
fi

# --- 5. what each instruction answers, and whether the emulator agrees --------------------------------------------------
step instructions_asked 60 "$build/wrapper_goldens" --out "$out/wrapper_goldens.txt" &&
  step instructions_emulator 60 "$build/simt_wrapper_goldens" --check "$out/wrapper_goldens.txt"

# --- 6. timings ---------------------------------------------------------------------------------------------------------
selection=(--model qwen3-vl-4b --dtype bf16)
[ $mode = full ] && selection=()
step kernels $([ $mode = full ] && echo 900 || echo 240) "$build/fire_gpu_bench" "${selection[@]}" --out "$out/kernels.jsonl"

# --- 7. a whole training step, and PyTorch on the same kernels ----------------------------------------------------------
needed=$((12 * 1024 * 1024))
free=$(df -Pk "$build" | awk 'NR == 2 { print $4 }')
if [ "${free:-0}" -gt $needed ]; then
  step training_step 400 "$build/fire_step_bench" --shape qwen3-vl-4b --pairs 8 --micro-batch 8 --steps 10 \
    --folder "$build/qwen3-vl-4b" && fact training_step "$(tail -n 1 "$step_output")"
else
  skip training_step "the random checkpoint needs 12 GB in $build"
fi
if torch=$(timeout 60 python3 -c 'import torch; assert torch.cuda.is_available(); print(torch.__version__)' 2>/dev/null); then
  fact machine.torch "$torch"
  # The peer is not under test: an operation that this PyTorch lacks is a line in the file, not a failure.
  timeout -k 10 "$(left 280 || echo 1)" python3 bench/gpu/peers.py "${selection[@]}" --out "$out/peers.jsonl" >"$step_output" 2>&1 ||
    say "peers.py did not reach its end; what it measured is kept"
  cat "$step_output" >>"$log"
else
  skip peers "python3 has no torch that sees the GPU"
fi

write_report  # so that a run that is cut off later keeps its numbers

# --- 8. compute-sanitizer, once it has found the faults that planted.cu has on purpose ----------------------------------
sanitizer=$(command -v compute-sanitizer || ls /usr/local/cuda/bin/compute-sanitizer 2>/dev/null | head -n 1)
sane() { timeout -k 10 "$1" "$sanitizer" --tool "$2" --error-exitcode 99 "${@:3}"; }
export FIRE_TEST_SMALL=1
declare -A fault=([memcheck]=out-of-bounds [racecheck]=race [synccheck]=barrier [initcheck]=uninitialised)
tools=(memcheck racecheck)
[ $mode = full ] && tools+=(synccheck initcheck)
# How many errors the summary at the end of a run speaks of; nothing where there is no summary.
errors_in() { sed -n -E 's/.*(ERROR SUMMARY: |\()([0-9]+) errors?.*/\2/p' "$1" | tail -n 1; }
# checked KEY SECONDS TOOL PROGRAM...: passes when the program reached its end and the tool saw nothing.
checked() {
  local limit status begin=$SECONDS summary
  limit=$(left "$2") || { skip "$1" "out of time"; return; }
  printf '\n== %s: %s\n' "$1" "${*:4}" >>"$log"
  sane "$limit" "${@:3}" >"$step_output" 2>&1
  status=$?
  cat "$step_output" >>"$log"
  if [ $status -eq 124 ]; then
    skip "$1" "not at its end after $limit s"
  elif [ $status -eq 0 ] && [ "$(errors_in "$step_output")" = 0 ]; then
    pass 1
    say "$(printf '%-34s %4d s  1 passed, 0 failed' "$1" $((SECONDS - begin)))"
    fact "tests.$1" "1 passed, 0 failed"
  else
    fail 1
    summary=$(grep SUMMARY "$step_output" | tail -n 1)
    say "$(printf '%-34s %4d s  0 passed, 1 failed: %s' "$1" $((SECONDS - begin)) "${summary:-status $status}")"
    fact "tests.$1" "0 passed, 1 failed: ${summary:-status $status}"
    tail -n 25 "$step_output" | sed 's/^/    /'
  fi
}
if [ -z "$sanitizer" ]; then
  skip compute-sanitizer "not installed"
elif ! sane 60 memcheck "$build/planted" none >"$step_output" 2>&1; then
  cat "$step_output" >>"$log"
  skip compute-sanitizer "does not run here: $(grep -m 1 -i -E 'error|not supported|denied' "$step_output" | sed 's/^=* *//')"
else
  for tool in "${tools[@]}"; do
    sane 60 $tool "$build/planted" ${fault[$tool]} >"$step_output" 2>&1
    cat "$step_output" >>"$log"
    if [ "$(errors_in "$step_output")" = 0 ] || [ -z "$(errors_in "$step_output")" ]; then
      skip "sanitizer_$tool" "it does not find the planted fault (${fault[$tool]})"
      continue
    fi
    limit=120
    [ $mode = full ] && limit=600
    checked "sanitizer_${tool}_kernels" $limit $tool "$build/cuda_test"
    checked "sanitizer_${tool}_model" $limit $tool \
      "$build/fire_verify" test/golden/qwen3_vl --device cuda --dtype bf16
  done
fi
unset FIRE_TEST_SMALL

# --- 9. report ----------------------------------------------------------------------------------------------------------
write_report
cat "$build/report.txt" | tee -a "$log"
[ -s "$out/results.json" ] || { fail 1 && say "no results.json was written"; }
say "$passed passed, $failed failed"
[ $failed -eq 0 ]
