#include "infer/stop_strings.h"

#include <algorithm>

#include "tensor/error.h"

namespace fire {

void StopStrings::check(int64_t vocab) const {
  if (std::any_of(strings.begin(), strings.end(), [](const std::string& s) { return s.empty(); }))
    throw Error(Code::invalid_argument, "a stop string is empty");
  const bool covered = static_cast<int64_t>(offsets.size()) == vocab + 1 && offsets.front() == 0 &&
                       offsets.back() == static_cast<int64_t>(bytes.size()) &&
                       std::is_sorted(offsets.begin(), offsets.end());
  if (!covered)
    throw Error(Code::invalid_argument,
                "the stop strings' table of token bytes does not fit a vocabulary of " + std::to_string(vocab));
}

bool StopMatcher::push(int32_t token) {
  if (!stops_) return false;
  const size_t t = static_cast<size_t>(token);
  tail_.append(stops_->bytes, static_cast<size_t>(stops_->offsets[t]),
               static_cast<size_t>(stops_->offsets[t + 1] - stops_->offsets[t]));
  size_t longest = 1;
  for (const std::string& s : stops_->strings) {
    if (tail_.find(s) != std::string::npos) return true;
    longest = std::max(longest, s.size());
  }
  if (tail_.size() >= longest) tail_.erase(0, tail_.size() - (longest - 1));
  return false;
}

}  // namespace fire
