# node-gyp does not build this package: this file only hands a `node-gyp rebuild` over to cmake-js and CMakeLists.txt.
{
  'targets': [
    {
      'target_name': 'fire',
      'type': 'none',
      'actions': [
        {
          'action_name': 'cmake_js',
          'inputs': ['CMakeLists.txt'],
          'outputs': ['<(module_root_dir)/build/cmake/Release/fire.node'],
          'action': [
            'node',
            "<!(node -p \"require.resolve('cmake-js/bin/cmake-js')\")",
            'build',
            '--directory',
            '<(module_root_dir)',
            '--out',
            '<(module_root_dir)/build/cmake',
          ],
        }
      ],
    }
  ],
}
