// Two names change places in one step.
#pragma once

#include <string>

namespace fire {

/// Lets two existing files or folders of one file system change names, so that neither name is ever empty. False where
/// the kernel or the file system has no such call. Throws ERR_FIRE_IO.
bool exchange(const std::string& first, const std::string& second);

}  // namespace fire
