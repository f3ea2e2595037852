// From JSON lines to bench/results/gpu-<name>.json and a table. What counts as the floor of a kernel: the larger of its
// bytes over the measured copy and its arithmetic over the fastest matrix product that the same run measured.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <iostream>
#include <sstream>

#include "bench.h"
#include "tensor/file.h"

namespace fire::bench {
namespace {

/// FMA units in f32: 66.9 TFLOP/s (NVIDIA H100 and H200 SXM datasheets). Nothing in the run measures them.
constexpr double f32_flops_per_ms = 66.9e9;

struct Row {
  std::string kernel, model, dtype, shape, error, form, torch_form;
  double bytes = 0, flops = 0, median = NAN, least = NAN, most = NAN, spread = NAN, repetitions = 0, torch = NAN;
};

double number_or_nan(const Json& from, const char* key) {
  const Json* found = from.find(key);
  return found ? found->number() : NAN;
}

std::string text_or_empty(const Json& from, const char* key) {
  const Json* found = from.find(key);
  return found ? found->string() : "";
}

/// An empty path is an empty file: a step that did not run.
std::vector<std::string> lines_of(const std::string& path) {
  std::vector<std::string> lines;
  if (path.empty()) return lines;
  std::istringstream text(read_file(path, size_t{64} << 20));
  for (std::string line; std::getline(text, line);)
    if (!line.empty()) lines.push_back(line);
  return lines;
}

/// The objects of a file of JSON lines. A run that was cut off leaves half a line, to which the next run may have added
/// its first: what is no JSON is said to be left out, and the rest counts.
std::vector<std::string> objects_of(const std::string& path) {
  std::vector<std::string> objects;
  for (const std::string& line : lines_of(path)) {
    try {
      Json::parse(line, path);
      objects.push_back(line);
    } catch (const Error& e) {
      std::printf("left out: %s\n", e.what());
    }
  }
  return objects;
}

std::vector<Row> read_rows(const std::string& path) {
  std::vector<Row> rows;
  for (const std::string& object : objects_of(path)) {
    const Json json = Json::parse(object, path);
    rows.push_back({json.at("kernel").string(),
                    json.at("model").string(),
                    json.at("dtype").string(),
                    json.at("shape").string(),
                    text_or_empty(json, "error"),
                    text_or_empty(json, "form"),
                    {},
                    number_or_nan(json, "bytes"),
                    number_or_nan(json, "flops"),
                    number_or_nan(json, "median_ms"),
                    number_or_nan(json, "min_ms"),
                    number_or_nan(json, "max_ms"),
                    number_or_nan(json, "spread"),
                    number_or_nan(json, "repetitions")});
  }
  return rows;
}

struct Ceilings {
  double bytes = 0, flops = 0;  // a millisecond

  void raise(const std::vector<Row>& rows) {
    for (const Row& row : rows) {
      if (row.model != "ceiling" || !(row.median > 0)) continue;
      if (row.kernel.starts_with("copy")) bytes = std::max(bytes, row.bytes / row.median);
      if (row.kernel.starts_with("gemm")) flops = std::max(flops, row.flops / row.median);
    }
  }
  double floor(const Row& row) const {
    const double rate = row.dtype == "f32" ? f32_flops_per_ms : flops;
    const double arithmetic = row.flops > 0 ? row.flops / rate : 0;
    return std::max(bytes > 0 ? row.bytes / bytes : NAN, arithmetic);
  }
};

/// JSON has no NaN.
std::string number(double x, const char* format = "%.9g") {
  if (!std::isfinite(x)) return "null";
  char text[32];
  std::snprintf(text, sizeof text, format, x);
  return text;
}

std::string field(const char* key, const std::string& value) { return "\"" + std::string(key) + "\": " + value; }

std::string row_json(const Row& row, const Ceilings& ceilings) {
  std::string text = "{" + field("kernel", json_quote(row.kernel)) + ", " + field("model", json_quote(row.model)) +
                     ", " + field("dtype", json_quote(row.dtype)) + ", " + field("shape", json_quote(row.shape)) +
                     ", " + field("bytes", number(row.bytes)) + ", " + field("flops", number(row.flops));
  if (!row.error.empty()) return text + ", " + field("error", json_quote(row.error)) + "}";
  const double floor = ceilings.floor(row);
  return text + ", " + field("median_ms", number(row.median)) + ", " + field("min_ms", number(row.least)) + ", " +
         field("max_ms", number(row.most)) + ", " + field("spread", number(row.spread)) + ", " +
         field("repetitions", number(row.repetitions)) + ", " + field("floor_ms", number(floor)) + ", " +
         field("share_of_floor", number(floor / row.median, "%.4f")) + ", " + field("torch_ms", number(row.torch)) +
         (row.torch_form.empty() ? "" : ", " + field("torch_form", json_quote(row.torch_form))) +
         (row.form.empty() ? "" : ", " + field("form", json_quote(row.form))) + "}";
}

/// Forms of one PyTorch operation have the form in brackets behind its name: the file has them all, the table the
/// fastest.
void print_table(const std::vector<Row>& rows, const Ceilings& ceilings) {
  const auto cell = [](double value, const char* format) {
    char text[32] = "-";
    if (std::isfinite(value)) std::snprintf(text, sizeof text, format, value);
    return std::string(text);
  };
  std::printf("%-20s %-5s %-32s %10s %6s %10s %9s\n", "model", "dtype", "kernel", "ms", "floor", "torch ms",
              "vs torch");
  for (const Row& row : rows) {
    if (row.kernel.ends_with(")")) continue;
    std::printf("%-20s %-5s %-32s ", row.model.c_str(), row.dtype.c_str(), row.kernel.c_str());
    if (!row.error.empty()) {
      std::printf("FAILED %s\n", row.error.c_str());
      continue;
    }
    std::printf("%10s %6s %10s %9s\n", cell(row.median, "%.4f").c_str(),
                cell(100 * ceilings.floor(row) / row.median, "%.0f%%").c_str(), cell(row.torch, "%.4f").c_str(),
                cell(row.torch / row.median, "%.2fx").c_str());
  }
}

/// Lines `group.key=text`: a member of the object `group`, or of the file where there is no dot. Numbers, true, false
/// and null stay what they are.
std::string facts_json(const std::string& path) {
  std::vector<std::pair<std::string, std::vector<std::string>>> groups;
  for (const std::string& line : lines_of(path)) {
    const size_t equals = line.find('='), dot = line.find('.');
    if (equals == std::string::npos) throw Error(Code::io, path + ": \"" + line + "\" is no key=value");
    const bool nested = dot < equals;
    const std::string group = nested ? line.substr(0, dot) : "";
    const std::string key = nested ? line.substr(dot + 1, equals - dot - 1) : line.substr(0, equals);
    const std::string value = line.substr(equals + 1);
    const bool digits = !value.empty() && value.size() < 16 &&
                        value.find_first_not_of("0123456789") == std::string::npos && (value == "0" || value[0] != '0');
    const bool literal = digits || value == "true" || value == "false" || value == "null" || value.starts_with("{");
    auto at = std::find_if(groups.begin(), groups.end(), [&](const auto& g) { return g.first == group; });
    if (at == groups.end()) at = groups.insert(at, {group, {}});
    at->second.push_back(json_quote(key) + ": " + (literal ? value : json_quote(value)));
  }
  std::string text;
  for (const auto& [group, members] : groups) {
    const std::string indent = group.empty() ? "  " : "    ";
    std::string body;
    for (const std::string& member : members) body += (body.empty() ? "" : ",\n") + indent + member;
    text += group.empty() ? body + ",\n" : "  " + json_quote(group) + ": {\n" + body + "\n  },\n";
  }
  return text;
}

}  // namespace

int report(const Report& files, const std::string& out) {
  std::vector<Row> rows = read_rows(files.kernels);
  const std::vector<Row> others = read_rows(files.peers);
  Ceilings ceilings;
  ceilings.raise(rows);
  ceilings.raise(others);
  std::vector<Row> unmatched;
  for (const Row& other : others) {
    const auto at = std::find_if(rows.begin(), rows.end(), [&](const Row& row) {
      return row.kernel == other.kernel && row.model == other.model && row.dtype == other.dtype;
    });
    if (at == rows.end()) {
      unmatched.push_back(other);
    } else if (!(at->torch <= other.median)) {  // the fastest of several forms
      at->torch = other.median;
      at->torch_form = other.form;
    }
  }
  std::string text = "{\n" + facts_json(files.facts) + "  \"ceilings\": {" +
                     field("bytes_per_second", number(ceilings.bytes * 1e3)) + ", " +
                     field("flops_per_second", number(ceilings.flops * 1e3)) + ", " +
                     field("f32_flops_per_second", number(f32_flops_per_ms * 1e3)) + "}";
  for (const auto& [key, list] : {std::pair{"kernels", &rows}, std::pair{"peers", &unmatched}}) {
    text += ",\n  \"" + std::string(key) + "\": [";
    for (size_t i = 0; i < list->size(); ++i)
      text += std::string(i ? ",\n    " : "\n    ") + row_json((*list)[i], ceilings);
    text += list->empty() ? "]" : "\n  ]";
  }
  std::string steps;
  for (const std::string& step : objects_of(files.steps)) steps += (steps.empty() ? "\n    " : ",\n    ") + step;
  text += ",\n  \"steps\": [" + steps + (steps.empty() ? "]" : "\n  ]") + "\n}\n";
  Json::parse(text, out);   // what is written can be read
  write_file(out, {text});  // atomically: a run that is killed leaves the file of the part before
  print_table(rows, ceilings);
  std::printf("PyTorch only:\n");
  print_table(unmatched, ceilings);
  return static_cast<int>(std::count_if(rows.begin(), rows.end(), [](const Row& r) { return !r.error.empty(); }));
}

}  // namespace fire::bench
