# The C++ tests. Every program prints `N passed, N failed` as its last line. They are built by the target fire_tests, which
# is part of a plain build and, since nobody who only uses the addon wants to wait for them, not of the addon's.
get_directory_property(FIRE_PRODUCT BUILDSYSTEM_TARGETS)

# The cases of every operation (test/ops), which know no device.
file(GLOB FIRE_OP_CASES CONFIGURE_DEPENDS test/ops/cases/*.cpp)
add_library(fire_op_cases OBJECT test/ops/case.cpp ${FIRE_OP_CASES})
target_include_directories(fire_op_cases PUBLIC test)
target_compile_options(fire_op_cases PRIVATE ${FIRE_OPTIONS})
target_link_libraries(fire_op_cases PUBLIC fire_core)

# Where programs find the files of test/ and bench/: here, or, where it is set to ".", wherever they are started.
set(FIRE_FILES "${CMAKE_CURRENT_SOURCE_DIR}")

# A program of tests, those of the operations on a device (cpu, cuda) among them.
file(GLOB FIRE_OP_TESTS CONFIGURE_DEPENDS test/ops/*_test.cpp)
function(fire_add_test name device library)
  add_executable(${name} ${ARGN} ${FIRE_OP_TESTS} test/ops/run.cpp test/native/check_main.cpp)
  target_include_directories(${name} PRIVATE test test/native test/cuda)
  target_compile_options(${name} PRIVATE ${FIRE_OPTIONS})
  target_compile_definitions(${name} PRIVATE FIRE_TEST_DIR="${FIRE_FILES}/test"
                                             FIRE_TEST_DEVICE="${device}")
  target_link_libraries(${name} PRIVATE fire_op_cases ${library})
endfunction()

# Registers a program's tests: op/<operation>/<label> for each operation, and the program's name for all others.
function(fire_register_tests name label)
  foreach(file ${FIRE_OP_CASES})
    set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS "${file}")
    file(STRINGS "${file}" declared REGEX "^OPERATION\\(")
    foreach(line ${declared})
      string(REGEX MATCH "[a-z_]+" operation "${line}")
      add_test(NAME op/${operation}/${label} COMMAND ${name} op/${operation}:)
    endforeach()
  endforeach()
  add_test(NAME ${name} COMMAND ${name} -op/)
endfunction()

file(GLOB FIRE_TESTS CONFIGURE_DEPENDS test/native/*.cpp)
list(FILTER FIRE_TESTS EXCLUDE REGEX "/check_main\\.cpp$")
fire_add_test(fire_test cpu fire_device ${FIRE_TESTS})
fire_register_tests(fire_test cpu)

# For another processor (cmake/aarch64.cmake) that is all: its arithmetic, against the golden folders too. It has no GPU.
if(CMAKE_CROSSCOMPILING)
  set_target_properties(fire_op_cases fire_test PROPERTIES EXCLUDE_FROM_ALL ON)
  add_custom_target(fire_tests DEPENDS fire_test)
  return()
endif()

# --- the GPU backend under the emulator -------------------------------------------------------------------------------
# The unchanged kernels as C++, run thread by thread (test/simt/README.md). Kernels cast float* to float4*, which nvcc
# allows and strict aliasing does not.
set(FIRE_SIMT_OPTIONS -Wall -Wextra -Wno-psabi -Wno-restrict -fno-strict-aliasing -Wno-unknown-pragmas -ffp-contract=off)

# fire_simt<suffix>: emulator, kernels and device; fire_device_simt<suffix>: the engine's door to it. `options` are added
# everywhere, for the sanitizers.
function(fire_add_simt suffix options)
  file(GLOB emulator CONFIGURE_DEPENDS test/simt/*.cpp)
  list(FILTER emulator EXCLUDE REGEX "/(selftest|engine_)[^/]*\\.cpp$")
  set(host ${FIRE_CUDA_HOST})
  list(FILTER host EXCLUDE REGEX "/runtime\\.cpp$")  # test/simt/runtime.cpp takes its place
  # LANGUAGE is a property of the directory's source files, which nvcc reads too: so the emulator gets copies by name.
  set(kernels)
  foreach(kernel ${FIRE_KERNELS})
    get_filename_component(name ${kernel} NAME_WE)
    set(wrapper "${CMAKE_CURRENT_BINARY_DIR}/simt/${name}.cpp")
    file(CONFIGURE OUTPUT "${wrapper}" CONTENT "#include \"cuda/${name}.cu\"\n")
    list(APPEND kernels "${wrapper}")
  endforeach()
  add_library(fire_simt${suffix} STATIC ${emulator} ${host} ${kernels})
  target_include_directories(fire_simt${suffix} PUBLIC test)
  target_compile_definitions(fire_simt${suffix} PRIVATE FIRE_SIMT=1 FIRE_HAS_CUDA=1)
  target_compile_options(fire_simt${suffix} PRIVATE ${FIRE_SIMT_OPTIONS} PUBLIC ${options})
  target_link_options(fire_simt${suffix} PUBLIC ${options})
  set_source_files_properties(${kernels} PROPERTIES COMPILE_OPTIONS "-std=c++17")
  target_link_libraries(fire_simt${suffix} PUBLIC fire_core)

  add_library(fire_device_simt${suffix} OBJECT native/engine/device.cpp)
  target_compile_options(fire_device_simt${suffix} PRIVATE ${FIRE_OPTIONS})
  target_compile_definitions(fire_device_simt${suffix} PRIVATE FIRE_HAS_CUDA=1)
  target_link_libraries(fire_device_simt${suffix} PUBLIC fire_simt${suffix})
endfunction()

file(GLOB FIRE_CUDA_TESTS CONFIGURE_DEPENDS test/cuda/*_test.cpp)
fire_add_simt("" "")
fire_add_test(simt_test cuda fire_device_simt ${FIRE_CUDA_TESTS})

# The emulator's own tests: every planted fault must be seen.
file(GLOB FIRE_SELFTESTS CONFIGURE_DEPENDS test/simt/selftest*.cpp)
function(fire_add_selftest suffix)
  add_executable(simt_selftest${suffix} ${FIRE_SELFTESTS} test/ptx/instructions_test.cpp test/native/check_main.cpp)
  target_include_directories(simt_selftest${suffix} PRIVATE test/native)
  target_compile_definitions(simt_selftest${suffix} PRIVATE FIRE_SIMT=1)
  target_compile_options(simt_selftest${suffix} PRIVATE ${FIRE_SIMT_OPTIONS})
  target_link_libraries(simt_selftest${suffix} PRIVATE fire_simt${suffix})
endfunction()
fire_add_selftest("")

# fire_verify: golden folders against the engine on any device of a build, without Node (the table of `fire-train verify`).
function(fire_add_verify name device)
  add_executable(${name} test/cuda/verify_main.cpp)
  target_compile_options(${name} PRIVATE ${FIRE_OPTIONS})
  target_link_libraries(${name} PRIVATE ${device})
endfunction()
fire_add_verify(simt_verify fire_device_simt)

# The engine on the emulated device: bits, memory, failures in the middle of a step.
file(GLOB FIRE_SIMT_ENGINE_TESTS CONFIGURE_DEPENDS test/simt/engine_*.cpp)
add_executable(simt_engine_test ${FIRE_SIMT_ENGINE_TESTS} test/native/check_main.cpp)
target_include_directories(simt_engine_test PRIVATE test/native test/simt)
target_compile_options(simt_engine_test PRIVATE ${FIRE_OPTIONS})
target_compile_definitions(simt_engine_test PRIVATE FIRE_TEST_DIR="${CMAKE_CURRENT_SOURCE_DIR}/test")
target_link_libraries(simt_engine_test PRIVATE fire_device_simt)

# Several ranks: a stand-in for NCCL between processes, and, for tests of TypeScript, an addon whose GPU is the emulator.
add_library(fire_nccl_standin SHARED test/nccl/nccl.cpp)
target_include_directories(fire_nccl_standin PRIVATE test)
target_compile_options(fire_nccl_standin PRIVATE ${FIRE_OPTIONS})
target_link_libraries(fire_nccl_standin PRIVATE Threads::Threads rt)
add_dependencies(simt_engine_test fire_nccl_standin)
target_compile_definitions(simt_engine_test PRIVATE FIRE_NCCL_STANDIN="$<TARGET_FILE:fire_nccl_standin>")
if(FIRE_HAS_MPI)
  add_executable(mpi_test test/mpi/mpi_test.cpp test/native/check_main.cpp)
  target_include_directories(mpi_test PRIVATE test/native)
  target_compile_options(mpi_test PRIVATE ${FIRE_OPTIONS})
  target_compile_definitions(mpi_test PRIVATE FIRE_TEST_DIR="${CMAKE_CURRENT_SOURCE_DIR}/test")
  target_link_libraries(mpi_test PRIVATE fire_device)
  add_library(fire_mpi_one_thread SHARED test/mpi/one_thread.c)
  target_link_libraries(fire_mpi_one_thread PRIVATE MPI::MPI_C)
  add_dependencies(mpi_test fire_mpi fire_mpi_one_thread)
  if(MPIEXEC_EXECUTABLE)
    # Open MPI wants to be told that it may run as root, and more ranks than there are cores.
    set(environment OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 OMPI_MCA_rmaps_base_oversubscribe=1
                    FIRE_MPI_LIBRARY=$<TARGET_FILE:fire_mpi>)
    foreach(ranks 2 3 4)
      add_test(NAME mpi_test_${ranks}_ranks COMMAND ${MPIEXEC_EXECUTABLE} ${MPIEXEC_NUMPROC_FLAG} ${ranks}
                                                    $<TARGET_FILE:mpi_test> "-without threads")
      set_tests_properties(mpi_test_${ranks}_ranks PROPERTIES TIMEOUT 300 ENVIRONMENT "${environment}")
    endforeach()
    add_test(NAME mpi_test_one_thread COMMAND ${MPIEXEC_EXECUTABLE} ${MPIEXEC_NUMPROC_FLAG} 2 $<TARGET_FILE:mpi_test>
                                              "without threads")
    set_tests_properties(mpi_test_one_thread PROPERTIES TIMEOUT 60 ENVIRONMENT
      "${environment};LD_PRELOAD=$<TARGET_FILE:fire_mpi_one_thread>")
  endif()
endif()
if(CMAKE_JS_VERSION)
  fire_add_addon(fire_emulated fire_device_simt)
endif()

# What `npm test` runs: the kernels in one schedule, whole training steps in another. All schedules and the sanitizers:
# scripts/test-kernels.mjs.
add_test(NAME simt_selftest COMMAND simt_selftest)
fire_register_tests(simt_test simt)
# The matrix products of a GPU whose blocks have at most 99 KiB of shared memory (GeForce).
add_test(NAME simt_test_geforce COMMAND simt_test op/linear: op/linear_backward: op/lora_linear:)
set_tests_properties(simt_test_geforce PROPERTIES ENVIRONMENT "FIRE_SIMT_SHARED=102400")
# By default what is asynchronous comes as late as it may, which hides a consumer that does not wait for the producer.
add_test(NAME simt_test_eager COMMAND simt_test SwiGLU "under dropout" "lie in memory" "of a group alone")
set_tests_properties(simt_test_eager PROPERTIES ENVIRONMENT "FIRE_SIMT_SCHEDULE=lifo;FIRE_SIMT_ASYNC=eager")
add_test(NAME simt_engine_test COMMAND simt_engine_test)
file(GLOB FIRE_GOLDEN CONFIGURE_DEPENDS test/golden/*/golden.json)
list(TRANSFORM FIRE_GOLDEN REPLACE "/golden\\.json$" "")
foreach(dtype f32 bf16)
  add_test(NAME simt_verify_${dtype} COMMAND simt_verify ${FIRE_GOLDEN} --device cuda --dtype ${dtype})
  set_tests_properties(simt_verify_${dtype} PROPERTIES ENVIRONMENT "FIRE_SIMT_SCHEDULE=random:1;FIRE_SIMT_ASYNC=eager")
endforeach()

# Built by name only (scripts/test-kernels.mjs).
foreach(kind asan tsan)
  set(options_asan -fsanitize=address,undefined -fno-sanitize-recover=undefined)
  set(options_tsan -fsanitize=thread)
  fire_add_simt("_${kind}" "${options_${kind}};-O1;-g;-fno-omit-frame-pointer")
  fire_add_test(simt_test_${kind} cuda fire_device_simt_${kind} ${FIRE_CUDA_TESTS})
  fire_add_selftest(_${kind})
endforeach()

# The pinned ring against a runtime that runs copies as late as a stream may; and, where there is CUDA, the real runtime on a
# machine that may have no GPU.
add_executable(ring_test test/cuda/host/pinned_ring_test.cpp cuda/pinned_ring.cpp test/native/check_main.cpp)
target_include_directories(ring_test PRIVATE native test/native "${CMAKE_CURRENT_SOURCE_DIR}")
target_compile_options(ring_test PRIVATE ${FIRE_OPTIONS})
add_test(NAME ring_test COMMAND ring_test)
if(FIRE_HAS_CUDA)
  add_executable(cudart_test test/cuda/host/cudart_test.cpp test/native/check_main.cpp)
  target_include_directories(cudart_test PRIVATE test/native)
  target_compile_options(cudart_test PRIVATE ${FIRE_OPTIONS})
  target_compile_definitions(cudart_test PRIVATE FIRE_HAS_CUDA=1)
  target_link_libraries(cudart_test PRIVATE fire_cuda)
  add_test(NAME cudart_test COMMAND cudart_test)
endif()

# --- the GPU backend on a GPU (test/gpu/verify.sh) ----------------------------------------------------------------------
include(test/gpu/targets.cmake)

# --- nvcc's own PTX under the emulator (test/ptx) -----------------------------------------------------------------------
# scripts/ptx-test.mjs writes the translations into ptx/cpp and builds these programs. Each is a program of the sources with
# other bodies for its kernels.
add_library(fire_ptx OBJECT test/ptx/instructions.cpp test/ptx/translations.cpp)
target_include_directories(fire_ptx PRIVATE test)
target_compile_options(fire_ptx PRIVATE ${FIRE_SIMT_OPTIONS})
target_link_libraries(fire_ptx PRIVATE fire_simt)
set(FIRE_PTX_kernels simt_test fire_device_simt fire_op_cases)  # objects, libraries
set(FIRE_PTX_wrapper_goldens simt_wrapper_goldens)
add_custom_target(ptx_programs DEPENDS simt_wrapper_goldens)
file(GLOB FIRE_PTX CONFIGURE_DEPENDS LIST_DIRECTORIES true "${CMAKE_CURRENT_BINARY_DIR}/ptx/cpp/*")
foreach(folder ${FIRE_PTX})
  get_filename_component(name ${folder} NAME)
  string(REGEX REPLACE "_mutant_.*" "" original ${name})
  list(POP_FRONT FIRE_PTX_${original} objects)
  file(GLOB translations CONFIGURE_DEPENDS "${folder}/*.cpp")
  # Points-to analysis takes as long as all the rest. Whoever builds this also runs it.
  set_source_files_properties(${translations} PROPERTIES COMPILE_OPTIONS
                              "-w;-O1;-fno-tree-pta;-march=native;-fno-strict-aliasing;-ffp-contract=off;-fno-math-errno")
  add_executable(ptx_${name} ${translations} $<TARGET_OBJECTS:${objects}> $<TARGET_OBJECTS:fire_ptx>)
  target_include_directories(ptx_${name} PRIVATE test)
  target_link_libraries(ptx_${name} PRIVATE ${FIRE_PTX_${original}} fire_simt)
  list(PREPEND FIRE_PTX_${original} ${objects})
  add_dependencies(ptx_programs ptx_${name})
endforeach()

get_directory_property(FIRE_TEST_TARGETS BUILDSYSTEM_TARGETS)
list(REMOVE_ITEM FIRE_TEST_TARGETS ${FIRE_PRODUCT})
foreach(target ${FIRE_TEST_TARGETS})
  set_target_properties(${target} PROPERTIES EXCLUDE_FROM_ALL ON)
endforeach()
set(FIRE_TEST_PROGRAMS fire_test ring_test simt_test simt_engine_test simt_selftest simt_verify simt_bench simt_step_bench
    simt_wrapper_goldens)
if(FIRE_HAS_CUDA)
  list(APPEND FIRE_TEST_PROGRAMS cudart_test)
endif()
if(FIRE_HAS_MPI)
  list(APPEND FIRE_TEST_PROGRAMS mpi_test)
endif()
if(CMAKE_JS_VERSION)
  list(APPEND FIRE_TEST_PROGRAMS fire_emulated)
  add_custom_target(fire_tests DEPENDS ${FIRE_TEST_PROGRAMS})
else()
  add_custom_target(fire_tests ALL DEPENDS ${FIRE_TEST_PROGRAMS})
endif()
