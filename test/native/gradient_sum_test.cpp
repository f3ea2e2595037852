#include "dist/gradient_sum.h"

#include "fixture.h"

using namespace fire;
using namespace fire::test;

namespace {

/// Notes what is asked of it.
class NotingGroup final : public ProcessGroup {
 public:
  explicit NotingGroup(std::vector<std::string>& calls) : calls_(calls) {}
  int rank() const override { return 0; }
  int size() const override { return 2; }
  void sum(Tensor values) override { calls_.push_back("sum " + std::to_string(static_cast<int>(values.f32()[0]))); }
  double join(Cancel) override {
    calls_.emplace_back("join");
    return 0.5;
  }
  bool leave() noexcept override {
    calls_.emplace_back("leave");
    return true;
  }

 private:
  std::vector<std::string>& calls_;
};

std::string text(const std::vector<Bucket>& buckets) {
  std::string all;
  for (const Bucket& b : buckets)
    all += std::to_string(b.layer) + "[" + std::to_string(b.begin) + "," + std::to_string(b.end) + ") ";
  return all;
}

}  // namespace

TEST("gradient sum: buckets are whole layers from the end, all of the gradient once") {
  const std::vector<int64_t> four{0, 10, 20, 30};
  CHECK(text(cut_buckets(four, 40, 1)) == "3[30,40) 2[20,30) 1[10,20) 0[0,10) ");
  CHECK(text(cut_buckets(four, 40, 80)) == "2[20,40) 0[0,20) ");
  CHECK(text(cut_buckets(four, 40, 120)) == "1[10,40) 0[0,10) ");
  CHECK(text(cut_buckets(four, 40, 1000)) == "0[0,40) ");
  // An adapter on layers 1 and 2 of 4 alone.
  CHECK(text(cut_buckets(std::vector<int64_t>{0, 0, 10, 20}, 20, 1)) == "2[10,20) 1[0,10) ");
}

TEST("gradient sum: each bucket once a step in one order, whoever begins it") {
  std::vector<float> gradient{0, 0, 1, 1, 2, 2};
  const Tensor view(gradient.data(), DType::f32, {6});
  const auto end = std::make_shared<GroupEnd>();
  std::vector<std::string> calls;
  const auto taken = [&] { return std::exchange(calls, {}); };
  GradientSum sum(std::make_unique<NotingGroup>(calls), end, view,
                  cut_buckets(std::vector<int64_t>{0, 2, 4}, 6, sizeof(float)));
  using Calls = std::vector<std::string>;
  const Calls whole{"sum 2", "sum 1", "sum 0", "join"};
  CHECK(sum.finish() == 0.5);
  CHECK(taken() == whole);
  CHECK(!sum.give_up("nothing has begun"));

  sum.require_whole();
  sum.layer_done(2);
  CHECK((taken() == Calls{"sum 2"}));
  CHECK_ERROR(Code::invalid_argument, ("update"), sum.require_whole());
  CHECK_ERROR(Code::invalid_argument, ("update"), sum.require_settled());
  sum.layer_done(1);
  sum.finish();
  CHECK((taken() == Calls{"sum 1", "sum 0", "join"}));
  sum.require_whole();

  sum.layer_done(2);
  CHECK(sum.give_up("no memory"));
  CHECK((taken() == Calls{"sum 2", "leave"}));
  CHECK_ERROR(Code::ranks, ("no memory"), sum.layer_done(1));
  CHECK_ERROR(Code::ranks, ("no memory"), sum.finish());
  CHECK_ERROR(Code::ranks, ("no memory"), sum.require_whole());
  sum.require_settled();
  end->ask("another reason");
  CHECK_ERROR(Code::ranks, ("no memory"), end->check());
}

TEST("gradient sum: a setting of the environment that is no number is named") {
  setenv("FIRE_BUCKET_BYTES", "many", 1);
  CHECK_ERROR(Code::invalid_argument, ("FIRE_BUCKET_BYTES=many"), bucket_bytes());
  setenv("FIRE_BUCKET_BYTES", "4096", 1);
  CHECK(bucket_bytes() == 4096);
  unsetenv("FIRE_BUCKET_BYTES");
  CHECK(bucket_bytes() == size_t{64} << 20);
}
