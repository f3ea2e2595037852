#!/usr/bin/env bash
# Everything that only a GPU can say, in one command and ten minutes. Needs nvcc, cmake and g++, or programs that were
# built elsewhere; uses ninja, compute-sanitizer, cuBLASLt and a python3 with torch where there are such. Needs no Node and
# no network. Leaves clocks, power limits and MIG as they are.
#
#   test/gpu/verify.sh [full|build|rehearse|parts] [--out DIR] [--build DIR] [--programs DIR]
#
#           the parts below, in their order; Qwen3-VL-4B in bf16
# full      all models and types, all tools of compute-sanitizer; in 50 minutes
# build     on a machine without a GPU: compiles the programs for a Hopper into PROGRAMS (build/gpu-programs, 28 MB), to be
#           carried; FIRE_GPU_ARCHITECTURE=80 for an A100. A run takes them where they are whole, for this GPU and of the same
#           sources, and start; elsewhere it says why not, and builds its own
# rehearse  the same parts with the programs of the emulator in BUILD, at tiny shapes; FIRE_GPU_SECONDS=5600 on a busy machine
# parts     prints the parts and their seconds
#
# FIRE_GPU_SECONDS sets another time, a whole number; every part's share changes with it. A part may run until the shares of
# all up to it are spent, so what one saves the next ones have. What runs out of time is left out, and said to be; without
# the first parts and a step nothing is known, so leaving those out is a failure. Only a build may take more than its share:
# the last parts pay for it. A run ends in time although everything in it hangs.
# FIRE_COMMIT names the commit where there is no history. FIRE_CUDA_SYNC=1 reports a fault under its kernel, slowly.
#
# OUT (build/gpu-results) receives log.txt, build.txt, results.json, wrapper_goldens.txt, kernels.jsonl, steps.jsonl,
# peers.jsonl; results.json is written anew behind every part. Commit it as bench/results/gpu-<name>.json, and
# wrapper_goldens.txt as test/gpu/wrapper_goldens.txt: `npm test` then holds the emulator against it.
# The last line is `N passed, N failed`; the exit status is 1 when anything failed, or nothing passed.
set -u -o pipefail

parts=(
  build:110         # the programs, unless they were carried
  instructions:10   # what each wrapper of inline PTX answers
  kernels:50        # all tests, small shapes
  golden:25         # qwen3_vl against PyTorch's numbers, f32 and bf16
  golden_others:45  # the other folders
  timings:70        # every operation at the shapes of the standard batch, against the roofline
  step:40           # the standard batch, our own matrix products
  step_cublaslt:30  # the same with cuBLASLt
  step_cached:25    # the same with reference and vision cached
  peers:50          # PyTorch on the main operations
  portable:25       # small shapes and the standard batch with the kernels of every GPU, where this one takes its own
  large:35          # the tests again, shapes as models have them
  repeats:20        # two more runs of the small ones beside each other, in one no kernels overlap: a result that changes is a race
  sanitizer:25      # compute-sanitizer, once it has found the faults that planted.cu has on purpose
)
whole=560  # their sum, below the ten minutes that a borrowed machine gives

mode=quick out=build/gpu-results build=build/gpu programs=build/gpu-programs
usage='usage: test/gpu/verify.sh [full|build|rehearse|parts] [--out DIR] [--build DIR] [--programs DIR]'
while [ $# -gt 0 ]; do
  case $1 in
    full | build | rehearse | parts)
      [ $mode = quick ] || { echo "one of $mode and $1"; exit 2; }
      mode=$1 ;;
    --out | --build | --programs)
      [ $# -gt 1 ] || { echo "$1 needs a folder"; exit 2; }
      declare "${1#--}=$2"
      shift ;;
    -h | --help) sed -n '2,/^set /{/^#/s/^# \{0,1\}//p}' "$0"; exit ;;
    *) echo "$usage"; exit 2 ;;
  esac
  shift
done
budget=${FIRE_GPU_SECONDS:-$([ $mode = full ] && echo 3000 || echo $whole)}
[[ $budget =~ ^[1-9][0-9]{0,5}$ ]] || { echo "FIRE_GPU_SECONDS is a whole number of seconds, up to 999999, not \"$budget\""; exit 2; }
if [ $mode = parts ]; then
  for part in "${parts[@]}"; do echo "${part%:*} $((${part#*:} * budget / whole))"; done
  exit
fi
folder() { mkdir -p "$1" && (cd "$1" && pwd); }
out=$(folder "$out") || exit 2
build=$(folder "$build") || exit 2
programs=$(folder "$programs") || exit 2
# What cannot be written to ends the run before a GPU's time is spent. Two runs would take each other's files; the lock ends
# with the run, however it ends.
if ! { exec {lock}>"$out/.lock" && echo >&$lock; } 2>/dev/null; then echo "cannot write to $out"; exit 2; fi
if command -v flock >/dev/null && ! flock -n $lock; then echo "another run writes to $out"; exit 2; fi
cd "$(dirname "$0")/../.." || exit 2

# --- the machine --------------------------------------------------------------------------------------------------------
command -v nvcc >/dev/null || PATH=/usr/local/cuda/bin:$PATH
command -v nvcc >/dev/null && export CUDACXX=${CUDACXX:-$(command -v nvcc)}
# within SECONDS COMMAND...: all that may ask a GPU goes through it, for a GPU that hangs makes its callers hang. The outer
# one returns even where the command cannot be killed.
# In the background, so that Ctrl-C is heard at once.
running=
within() {
  timeout -k 1 $(($1 + 3)) timeout -k 2 "$@" <&0 &
  running=$!
  wait $running
}
gpu=emulator driver='' memory='' capability=${FIRE_GPU_ARCHITECTURE:-}
if [ $mode != rehearse ] && [ $mode != build ]; then
  IFS=, read -r capability gpu driver memory \
    < <(within 5 nvidia-smi --query-gpu=compute_cap,name,driver_version,memory.total --format=csv,noheader 2>/dev/null)
fi
if [ $mode = quick ] || [ $mode = full ]; then
  if [ -z "$gpu" ] && ! [ -e /dev/nvidiactl ] && ! ldconfig -p 2>/dev/null | grep -q 'libcuda\.so\.1'; then
    echo "this machine has no NVIDIA driver; 'test/gpu/verify.sh build' compiles without a GPU, 'rehearse' runs without one"
    exit 2
  fi
fi
hash_of() { LC_ALL=C sort | xargs -r sha256sum | sha256sum | cut -c1-16; }
sources=$(find cuda native bench/gpu test/cuda test/native test/ops test/gpu CMakeLists.txt cmake -type f \
  \( -name '*.cu' -o -name '*.cuh' -o -name '*.h' -o -name '*.cpp' -o -name '*.cmake' -o -name CMakeLists.txt \) | hash_of)
# For this GPU alone: 90a is what the kernels want of a Hopper. That is what `build` is for, and where nobody knows.
capability=${capability/./}
case $capability in 90 | '' | *[!0-9]*) capability=90a ;; esac
built=(cuda_test fire_verify fire_gpu_bench fire_step_bench wrapper_goldens planted)

# make_programs BUILD OPTION...: warnings of another compiler than ours are no reason to lose a slot.
make_programs() {
  local generator=()
  # An older folder may hold the other generator.
  if [ ! -f "$1/CMakeCache.txt" ] && command -v ninja >/dev/null; then generator=(-G Ninja); fi
  cmake -S . -B "$1" "${generator[@]}" -DCMAKE_BUILD_TYPE=Release -DFIRE_CUDA=ON -DFIRE_CUDA_WERROR=OFF \
    -DFIRE_BUILD_TESTS=ON "-DFIRE_CUDA_ARCHITECTURES=$capability-real" "${@:2}" &&
    cmake --build "$1" --parallel "${FIRE_JOBS:-$(nproc)}" --target gpu_programs
}
hash_of_programs() { (cd "$programs" && printf '%s\n' "${built[@]}" | hash_of 2>/dev/null); }
if [ $mode = build ]; then
  make_programs "$build" -DCMAKE_EXE_LINKER_FLAGS='-static-libstdc++ -static-libgcc -Wl,--gc-sections' || exit 1
  for program in "${built[@]}"; do strip -o "$programs/$program" "$build/$program" || exit 1; done
  printf '%s\n' "sources=$sources" "architecture=$capability" "programs=$(hash_of_programs)" >"$programs/stamp"
  du -ch "${built[@]/#/$programs/}" | tail -n 1
  exit
fi

# --- counting, the clock, the files -------------------------------------------------------------------------------------
rm -f "$out"/{log.txt,build.txt,results.json,wrapper_goldens.{txt,new},kernels.jsonl,steps.jsonl,peers.jsonl}
touch "$out"/{kernels,steps,peers}.jsonl
log=$out/log.txt scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
facts=$scratch/facts.txt output=$scratch/output.txt
: >"$facts"
passed=0 failed=0 omitted=()
# Seconds since the start; FIRE_GPU_CLOCK is a file that says so, for the test of this script.
clock() { if [ -n "${FIRE_GPU_CLOCK:-}" ]; then cat "$FIRE_GPU_CLOCK"; else echo $SECONDS; fi; }
since() { echo $(($(clock) - $1)); }

say() { printf '%s\n' "$*"; printf '%s\n' "$*" >>"$log"; } 2>/dev/null
fact() { printf '%s=%s\n' "$1" "${2//[$'\n\r']/ }" >>"$facts"; }
# verdict KEY SECONDS TEXT: a line with the clock beside it.
verdict() {
  say "$(printf '%-34s %4d s  %-36s %4d/%d s' "$1" "$2" "$3" "$(clock)" "$budget")"
  fact "tests.$1" "$3"
}
count() { passed=$((passed + $1)) failed=$((failed + $2)); }
essential=' instructions kernels golden golden_f32 golden_bf16 step '
leave_out() {
  omitted+=("$1")
  [[ $essential != *" $1 "* ]] || count 0 1
  say "LEFT OUT $1: $2"
  fact "left_out.$1" "$2"
}

# part NAME: the part before it has ended. Fails where its time is spent.
shares=0 deadline=0 late=0
reserve=12  # to kill what hangs and to write the last report
part() {
  write_report
  local one
  for one in "${parts[@]}"; do
    if [ "${one%:*}" = "$1" ]; then shares=$((shares + ${one#*:})); fi
  done
  deadline=$((shares * budget / whole + late))
  if [ $deadline -gt $((budget - reserve)) ]; then deadline=$((budget - reserve)); fi
  printf '\n== %s, until %d s\n' "$1" $deadline >>"$log"
  left >/dev/null || { leave_out "$1" "out of time"; return 1; }
}
# The seconds that the part still has; none is a failure.
left() {
  local rest=$((deadline - $(clock)))
  [ $rest -gt 0 ] && echo $rest
}
# limited COMMAND...: until the part's time is spent; its output in $output and in the log.
limited() {
  local limit status
  : >"$output"  # of the command before
  limit=$(left) || return 124
  printf '\n-- %s\n' "$*" >>"$log"
  within "$limit" stdbuf -oL "$@" >"$output" 2>&1
  status=$?
  cat "$output" >>"$log"
  # `fact: group.key=text` of a program is one of the results.
  sed -n 's/^fact: \([^=]*=.*\)/\1/p' "$output" >>"$facts"
  return $status
}
# step KEY COMMAND...: programs that end with `N passed, N failed` are counted so, others as one. One that is stopped counts
# only for what it had said to be wrong. Returns the command's own status.
step() {
  local key=$1 begin status counts good=0 bad=0
  begin=$(clock)
  left >/dev/null || { leave_out "$key" "out of time"; return 124; }
  limited "${@:2}"
  status=$?
  counts=$(tail -n 1 "$output" | grep -E '^[0-9]+ passed, [0-9]+ failed$')
  if [ -n "$counts" ]; then
    good=${counts%% passed*} bad=${counts#*, } bad=${bad%% *}
  elif [ $status -eq 0 ]; then
    good=1
  fi
  if [ $status -eq 124 ] || [ $status -eq 137 ]; then
    if ! grep -q -E '^[^ ]+:[0-9]+: \[|  MISS |FAILED' "$output"; then
      leave_out "$key" "not at its end after $(since "$begin") s"
      return 124
    fi
    bad=1
  fi
  if [ $status -ne 0 ] && [ "$bad" -eq 0 ]; then bad=1; fi
  count "$good" "$bad"
  verdict "$key" "$(since "$begin")" "$good passed, $bad failed"
  [ "$bad" -eq 0 ] || tail -n 25 "$output" | sed 's/^/    /'
  return $status
}

# Joins all that is known by now. Where no program can (status 1 speaks of failures among the rows), these are the facts.
have_programs=false
write_report() {
  local status=2
  { cat "$facts" && echo "seconds=$(clock)" && echo "tests.passed=$passed" && echo "tests.failed=$failed"; } >"$facts.all"
  if $have_programs; then
    within 3 "$(program fire_gpu_bench)" --report "$facts.all" "$out/kernels.jsonl" "$out/peers.jsonl" "$out/steps.jsonl" \
      --out "$out/results.json" >"$scratch/report.txt" 2>&1
    status=$?
  fi
  [ $status -gt 1 ] || return 0
  have_programs=false  # it would not be better the next time
  if ! { sed -E 's/["\\]/\\&/g; s/^([^=]*)=(.*)/  "\1": "\2",/; 1s/^/{\n/; $s/,$/\n}/' "$facts.all" >"$out/results.tmp" &&
    mv "$out/results.tmp" "$out/results.json"; } 2>/dev/null; then
    $told || say "CANNOT WRITE to $out (is the disk full?): what comes now is on the screen only"
    told=true
  fi
  return 1
}
told=false
# stopped STATUS: a signal came; what is known is kept, and nothing goes on that would hold the GPU.
stopped() {
  trap '' INT TERM HUP
  exec >&$screen  # a signal comes while a command's output goes elsewhere
  kill "$running" 2>/dev/null && wait "$running"
  fact left_out.rest "stopped after $(clock) s"
  write_report
  say "stopped"
  say "$passed passed, $failed failed"
  exit $1
}
exec {screen}>&1
trap 'stopped 130' INT
trap 'stopped 143' TERM
trap 'stopped 129' HUP

# program NAME: where it is, or its like under the emulator.
declare -A emulated=([cuda_test]=simt_test [fire_verify]=simt_verify [fire_gpu_bench]=simt_bench
  [fire_step_bench]=simt_step_bench [wrapper_goldens]=simt_wrapper_goldens [planted]=simt_planted)
program() { if [ $mode = rehearse ]; then echo "$build/${emulated[$1]}"; else echo "$programs/$1"; fi; }

# What a rehearsal makes small: it shows that everything runs, not what it gives.
tests=() timed=(--model qwen3-vl-4b --dtype bf16) steps=(--model qwen3-vl-4b)
peers=("${timed[@]}" --only linear,attention)
main=test/golden/qwen3_vl others=()
for folder in test/golden/*/golden.json; do
  folder=${folder%/golden.json}
  [ "$folder" = $main ] || others+=("$folder")
done
case $mode in
  full) timed=() peers=() ;;
  rehearse)
    tests=(op/swiglu: op/rms_norm: op/adamw:) others=(test/golden/llava) timed=(--quick --dtype bf16)
    peers=(--quick --device cpu --only attention) steps=(--quick --steps 1 --image 128) ;;
esac

dirty=null
if git rev-parse HEAD >/dev/null 2>&1; then
  [ -z "$(git status --porcelain -- . ':!bench/results')" ] && dirty=false || dirty=true
fi
fact benchmark gpu
fact command "test/gpu/verify.sh $mode"
fact date "$(date -u +%Y-%m-%dT%H:%M:%SZ)"
fact commit.sha "${FIRE_COMMIT:-$(git rev-parse HEAD 2>/dev/null || echo unknown)}"
fact commit.dirty $dirty
fact sources.all "$sources"
# One hash a kernel source, so that a reader can tell which results are older than the code.
while read -r hash file; do file=${file##*/} && fact "sources.${file//./_}" "${hash:0:16}"; done \
  < <(find cuda -name '*.cu' -o -name '*.cuh' | LC_ALL=C sort | xargs sha256sum)
fact machine.gpu "${gpu# }"
fact machine.driver "${driver# }"
fact machine.memory "${memory# }"
fact machine.nvcc "$(nvcc --version 2>/dev/null | sed -n 's/.*release \([0-9.]*\),.*/\1/p')"
fact machine.compiler "$(g++ -dumpfullversion 2>/dev/null)"
fact machine.kernel "$(uname -sr)"
fact machine.cores "$(nproc)"
say "${gpu:-no GPU that nvidia-smi knows}, driver ${driver:-unknown}, $(uname -sr), sources $sources, $mode, $budget s"
say "$(command -v nvcc cmake ninja g++ python3 compute-sanitizer | tr '\n' ' ')"
[ $mode = rehearse ] || [ -z "$gpu" ] || within 5 nvidia-smi -L >>"$log" 2>&1

# cuBLASLt is optional and opened by name; the loader does not know every place where a toolkit may lie.
if [ $mode != rehearse ] && [ -z "${FIRE_CUBLASLT_LIB:-}" ]; then
  FIRE_CUBLASLT_LIB=$({
    ldconfig -p 2>/dev/null | awk '/libcublasLt\.so\.1[23] / { print $NF }'
    ls /usr/local/cuda*/lib64/libcublasLt.so.1[23] /usr/local/cuda*/targets/*/lib/libcublasLt.so.1[23] 2>/dev/null
    within 10 python3 -c 'import glob, nvidia; [print(f) for p in nvidia.__path__ for f in glob.glob(p + "/**/libcublasLt.so.1[23]", recursive=True)]' 2>/dev/null
  } | head -n 1)
  if [ -n "$FIRE_CUBLASLT_LIB" ]; then export FIRE_CUBLASLT_LIB; fi
fi
fact machine.cublaslt "${FIRE_CUBLASLT_LIB:-none}"

# --- build --------------------------------------------------------------------------------------------------------------
starts() {
  local limit
  limit=$(left) || return 1
  [[ $(within $((limit < 20 ? limit : 20)) "$(program cuda_test)" 'no such test' 2>&1) == *'no test has such a name'* ]]
}
# Why the carried programs are not taken; nothing where they are.
objection_to_carried() {
  [ -f "$programs/stamp" ] || { echo "there are none"; return; }
  grep -q -x "sources=$sources" "$programs/stamp" || { echo "they are of other sources"; return; }
  grep -q -x "architecture=$capability" "$programs/stamp" || { echo "they are for another GPU"; return; }
  grep -q -x "programs=$(hash_of_programs)" "$programs/stamp" || { echo "they are not whole"; return; }
  chmod +x "${built[@]/#/$programs/}"
  starts || echo "they do not start here"
}
part build
if [ $mode = rehearse ]; then
  for one in cuda_test fire_verify fire_gpu_bench fire_step_bench wrapper_goldens; do
    [ -x "$(program $one)" ] && continue
    say "no $(program $one); 'npm test' makes it, or 'cmake --build $build --target fire_tests'"
    say "0 passed, 1 failed"
    exit 1
  done
  starts || { say "$(program cuda_test) does not start"; say "0 passed, 1 failed"; exit 1; }
elif objection=$(objection_to_carried) && [ -z "$objection" ]; then
  fact machine.programs carried
  verdict build "$(clock)" "the carried programs"
else
  say "carried programs: $objection; building"
  fact machine.programs built
  programs=$build
  export capability
  # Without it there is nothing: it may take longer than its share, and the parts behind it move.
  share=$deadline deadline=$((budget * 6 / 10))
  step build bash -c "$(declare -f make_programs)"'; make_programs "$0"' "$build"
  status=$?
  cp "$output" "$out/build.txt"
  if [ "$(clock)" -gt $share ]; then late=$(($(clock) - share)); fi
  if [ $status -ne 0 ]; then
    [ $failed -gt 0 ] || failed=1
    grep -n -E 'error|Error' "$out/build.txt" | head -n 20
    write_report
    say "nothing to run, see $out/build.txt"
    say "$passed passed, $failed failed"
    exit 1
  fi
fi
have_programs=true

# --- instructions, kernels, whole models --------------------------------------------------------------------------------
part instructions && step instructions "$(program wrapper_goldens)" --out "$out/wrapper_goldens.new" &&
  mv "$out/wrapper_goldens.new" "$out/wrapper_goldens.txt"

part kernels && FIRE_TEST_SMALL=1 step kernels "$(program cuda_test)" "${tests[@]}"

# golden KEY FOLDER... OPTION...: several folders in one process, for every process has to open the GPU.
golden() { step "$1" "$(program fire_verify)" "${@:2}" --device cuda; }
if part golden; then
  golden golden_f32 $main --dtype f32
  golden golden_bf16 $main --dtype bf16
fi
if part golden_others; then
  golden golden_others_bf16 "${others[@]}" --dtype bf16
  golden golden_others_f32 "${others[@]}" --dtype f32
  if [ -n "${FIRE_CUBLASLT_LIB:-}" ]; then
    golden golden_cublaslt $main --dtype bf16 --gemm cublaslt
    step cublaslt_rows "$(program cuda_test)" 'cuBLASLt of this machine'  # do rows keep their bits?
  fi
fi

# --- times --------------------------------------------------------------------------------------------------------------
part timings && step timings "$(program fire_gpu_bench)" "${timed[@]}" --out "$out/kernels.jsonl"

# standard KEY OPTION...
standard() { step "$1" "$(program fire_step_bench)" "${steps[@]}" --name "$1" --out "$out/steps.jsonl" "${@:2}"; }
part step && standard step --profile
if part step_cublaslt; then
  if [ -n "${FIRE_CUBLASLT_LIB:-}" ]; then
    standard step_cublaslt --gemm cublaslt
  else
    leave_out step_cublaslt "no libcublasLt was found"
  fi
fi
part step_cached && standard step_cached --cached-reference --cached-vision

if part peers; then
  device=cuda
  [ $mode = rehearse ] && device=cpu
  if torch=$(within "$(left)" python3 -c 'import sys, torch
assert sys.argv[1] == "cpu" or torch.cuda.is_available()
print(torch.__version__)' $device 2>/dev/null); then
    fact machine.torch "$torch"
    begin=$(clock)
    # The peer is not under test: an operation that this PyTorch lacks is a line in the file, not a failure.
    if limited python3 bench/gpu/peers.py "${peers[@]}" --out "$out/peers.jsonl"; then
      verdict peers "$(since "$begin")" measured
    else
      leave_out peers "peers.py did not reach its end; what it measured is kept"
    fi
  else
    leave_out peers "python3 has no torch that sees the GPU"
  fi
fi

if part portable; then
  if [ $mode = rehearse ] || [ $capability = 90a ]; then
    FIRE_CUDA_ISA=sm_80 FIRE_TEST_SMALL=1 step portable "$(program cuda_test)" "${tests[@]}"
    FIRE_CUDA_ISA=sm_80 standard step_portable
  else
    leave_out portable "this GPU has no kernels of its own"
  fi
fi

# --- what takes long ----------------------------------------------------------------------------------------------------
part large && step large "$(program cuda_test)" "${tests[@]}"

if part repeats; then
  export FIRE_TEST_SMALL=1
  # Both at once, their lines mixed; counted as one. Where only the one fails in which kernels overlap, one of them does not
  # wait for those before it (gpu::begin_kernel).
  step repeats bash -c '"$@" & FIRE_CUDA_SYNC=1 "$@"; second=$?; wait $!; first=$?; exit $((first > second ? first : second))' both \
    "$(program cuda_test)" "${tests[@]}"
fi

export FIRE_TEST_SMALL=1
sane() { limited "$sanitizer" --tool "$1" --error-exitcode 99 "${@:2}"; }
declare -A fault=([memcheck]=out-of-bounds [racecheck]=race [synccheck]=barrier [initcheck]=uninitialised)
tools=(memcheck racecheck)
[ $mode = full ] && tools+=(synccheck initcheck)
# How many errors the summary at the end of a run speaks of; nothing where there is no summary.
errors() { sed -n -E 's/.*(ERROR SUMMARY: |\()([0-9]+) errors?.*/\2/p' "$output" | tail -n 1; }
# checked KEY TOOL PROGRAM...: passes when the program reached its end and the tool saw nothing.
checked() {
  local status begin summary
  begin=$(clock)
  sane "${@:2}"
  status=$?
  if { [ $status -eq 124 ] || [ $status -eq 137 ]; } && ! grep -q -E '^=+ (Invalid|Error|Barrier|Uninitialized|Program hit)' "$output"; then
    leave_out "$1" "not at its end"
  elif [ $status -eq 0 ] && [ "$(errors)" = 0 ]; then
    count 1 0
    verdict "$1" "$(since "$begin")" "1 passed, 0 failed"
  else
    summary=$(grep SUMMARY "$output" | tail -n 1)
    count 0 1
    verdict "$1" "$(since "$begin")" "0 passed, 1 failed: ${summary:-status $status}"
    tail -n 25 "$output" | sed 's/^/    /'
  fi
}
if part sanitizer; then
  sanitizer=$(command -v compute-sanitizer)
  if [ -z "$sanitizer" ]; then
    leave_out sanitizer "not installed"
  elif ! sane memcheck "$(program planted)" none; then
    leave_out sanitizer "does not run here: $(grep -m 1 -i -E 'error|not supported|denied' "$output" | sed 's/^=* *//')"
  else
    for tool in "${tools[@]}"; do
      sane $tool "$(program planted)" ${fault[$tool]}
      if [ "$(errors)" = 0 ] || [ -z "$(errors)" ]; then
        leave_out "sanitizer_$tool" "it does not find the planted fault (${fault[$tool]})"
        continue
      fi
      # One operation at a time, so that what is done counts.
      for operation in linear lora_linear_backward linear_branches linear_branches_backward gated_branches gated_backward attention attention_backward preference_backward norm_rope adamw; do
        left >/dev/null || { leave_out "sanitizer_$tool" "out of time before $operation"; break; }
        checked "sanitizer_${tool}_$operation" $tool "$(program cuda_test)" "op/$operation:"
      done
      if left >/dev/null; then
        checked "sanitizer_${tool}_model" $tool "$(program fire_verify)" $main --device cuda --dtype bf16
      fi
    done
  fi
fi

# --- report -------------------------------------------------------------------------------------------------------------
have_programs=true
write_report || { failed=$((failed + 1)) && say "results.json has no rows, they are in the .jsonl files:"; }
tee -a "$log" <"$scratch/report.txt"
[ ${#omitted[@]} -eq 0 ] || say "left out: ${omitted[*]}"
say "$passed passed, $failed failed"
[ $failed -eq 0 ] && [ $passed -gt 0 ]
