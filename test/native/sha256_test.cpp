// SHA-256 against the examples of FIPS 180-4 and every length around a block's end.
#include "tensor/sha256.h"

#include "check.h"

using namespace fire;

namespace {

std::span<const std::byte> bytes(std::string_view text) { return std::as_bytes(std::span(text)); }

std::string sha256(std::string_view text) {
  Sha256 sha;
  sha.add(bytes(text));
  return hex(sha.digest());
}

}  // namespace

TEST("sha256: the standard's examples") {
  CHECK(sha256("") == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
  CHECK(sha256("abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  CHECK(sha256("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq") ==
        "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
  CHECK(sha256(std::string(1000000, 'a')) == "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
}

TEST("sha256: how the bytes come makes no difference") {
  for (size_t length = 0; length < 200; ++length) {
    const std::string text(length, 'x');
    for (size_t cut : {size_t{0}, length / 3, length}) {
      Sha256 sha;
      sha.add(bytes(text).first(cut));
      sha.add(bytes(text).subspan(cut));
      CHECK(hex(sha.digest()) == sha256(text));
    }
  }
}
