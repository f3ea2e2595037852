# Programs for a machine with a GPU (test/gpu/verify.sh), and the same ones under the emulator where that says something:
# kernels, timing loop and report then run on every machine, with tiny shapes.

# fire_gpu_bench: every operation timed (bench/gpu). fire_step_bench: a whole training step.
function(fire_add_gpu_bench name device)
  add_executable(${name} bench/gpu/kernels.cpp bench/gpu/cases.cpp bench/gpu/buffers.cpp bench/gpu/report.cpp)
  target_compile_options(${name} PRIVATE ${FIRE_OPTIONS})
  target_compile_definitions(${name} PRIVATE FIRE_BENCH_SHAPES="${FIRE_FILES}/bench/gpu/shapes.json")
  target_link_libraries(${name} PRIVATE fire_op_cases ${device})
endfunction()
function(fire_add_step_bench name device)
  add_executable(${name} bench/gpu/step.cpp bench/gpu/random_model.cpp bench/gpu/buffers.cpp)
  target_compile_options(${name} PRIVATE ${FIRE_OPTIONS})
  target_compile_definitions(${name} PRIVATE FIRE_BENCH_SHAPES="${FIRE_FILES}/bench/gpu/shapes.json")
  target_link_libraries(${name} PRIVATE fire_op_cases ${device})
endfunction()

fire_add_gpu_bench(simt_bench fire_device_simt)
fire_add_step_bench(simt_step_bench fire_device_simt)
add_test(NAME simt_bench COMMAND simt_bench --quick)
add_test(NAME simt_report COMMAND bash "${CMAKE_CURRENT_SOURCE_DIR}/test/gpu/report_test.sh" $<TARGET_FILE:simt_bench>)
# The standard batch at its true sizes, as far as it goes without computing.
add_test(NAME simt_step_bench COMMAND simt_step_bench --model qwen3-vl-4b --plan)
# A quarter of the rows at once: a quarter of the arena.
add_test(NAME simt_step_bench_parts COMMAND simt_step_bench --model qwen3-vl-4b --plan --micro-batch 2)
set_tests_properties(simt_step_bench_parts PROPERTIES
    PASS_REGULAR_EXPRESSION "\"rows\": 304, .*\"arena_planned\": 50[0-9][0-9][0-9][0-9][0-9][0-9][0-9][0-9]}")

# wrapper_goldens: what each instruction of cuda/ptx.cuh answers.
set(simt_goldens "${CMAKE_CURRENT_BINARY_DIR}/simt/wrapper_goldens.cpp")
file(CONFIGURE OUTPUT "${simt_goldens}" CONTENT "#include \"test/gpu/wrapper_goldens.cu\"\n")
add_executable(simt_wrapper_goldens "${simt_goldens}")
target_compile_definitions(simt_wrapper_goldens PRIVATE FIRE_SIMT=1)
target_compile_options(simt_wrapper_goldens PRIVATE ${FIRE_SIMT_OPTIONS})
set_source_files_properties("${simt_goldens}" PROPERTIES COMPILE_OPTIONS "-std=c++17")
target_link_libraries(simt_wrapper_goldens PRIVATE fire_simt)
# The file comes from a GPU; until one has written it there is nothing to hold the emulator against.
if(EXISTS "${CMAKE_CURRENT_SOURCE_DIR}/test/gpu/wrapper_goldens.txt")
  add_test(NAME simt_wrapper_goldens
           COMMAND simt_wrapper_goldens --check "${CMAKE_CURRENT_SOURCE_DIR}/test/gpu/wrapper_goldens.txt")
endif()

# The whole of verify.sh with the programs above. Its order and its clock: test/gpu/verify.test.ts.
add_test(NAME verify_rehearsal
         COMMAND "${CMAKE_CURRENT_SOURCE_DIR}/test/gpu/verify.sh" rehearse --build "${CMAKE_CURRENT_BINARY_DIR}"
                 --out "${CMAKE_CURRENT_BINARY_DIR}/verify-rehearsal")
set_tests_properties(verify_rehearsal PROPERTIES
  ENVIRONMENT "FIRE_GPU_SECONDS=5600"  # this machine may be busy
  PASS_REGULAR_EXPRESSION "left out: step_cublaslt (peers )?sanitizer\n[0-9]+ passed, 0 failed")

if(FIRE_HAS_CUDA)
  set(FIRE_FILES ".")  # they may be carried to another machine
  fire_add_test(cuda_test cuda fire_device ${FIRE_CUDA_TESTS})
  fire_add_verify(fire_verify fire_device)
  fire_add_gpu_bench(fire_gpu_bench fire_device)
  fire_add_step_bench(fire_step_bench fire_device)
  add_executable(wrapper_goldens test/gpu/wrapper_goldens.cu)
  target_link_libraries(wrapper_goldens PRIVATE fire_cuda)
  add_executable(planted test/gpu/planted.cu)
  target_link_libraries(planted PRIVATE CUDA::cudart_static)
  set_target_properties(wrapper_goldens planted PROPERTIES CUDA_RUNTIME_LIBRARY Static)
  add_custom_target(gpu_programs DEPENDS cuda_test fire_verify fire_gpu_bench fire_step_bench wrapper_goldens planted)
endif()
