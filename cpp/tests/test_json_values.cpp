// Native tests of JSON's values, against definitions that are slow and plain.
#include <cmath>
#include <cstdint>
#include <random>
#include <string>
#include <string_view>
#include <vector>

#include "../src/json_values.hpp"
#include "check.hpp"

namespace omnistream::json {
namespace {

// All strings of `size` letters.
template <class Test>
void every_string(std::string_view letters, std::size_t size, Test test) {
    std::string text(size, letters[0]);
    std::vector<std::size_t> pick(size, 0);
    for (;;) {
        test(std::string_view(text));
        std::size_t at = 0;
        while (at != size && ++pick[at] == letters.size()) text[at] = letters[pick[at] = 0], ++at;
        if (at == size) return;
        text[at] = letters[pick[at]];
    }
}

// ---- numbers ----

// RFC 8259's grammar as an automaton: how far a number goes, and whether it may end there.
struct Stop {
    std::size_t at;
    bool complete;
};
Stop grammar(std::string_view text) {
    enum State { begin, minus, zero, whole, point, part, e, sign, exponent, none };
    const auto next = [](State state, char c) {
        const bool digit = c >= '0' && c <= '9';
        switch (state) {
            case begin:
                if (c == '-') return minus;
                [[fallthrough]];
            case minus:
                return c == '0' ? zero : digit ? whole : none;
            case whole:
                if (digit) return whole;
                [[fallthrough]];
            case zero:
                return c == '.' ? point : c == 'e' || c == 'E' ? e : none;
            case point:
                return digit ? part : none;
            case part:
                return digit ? part : c == 'e' || c == 'E' ? e : none;
            case e:
                if (c == '+' || c == '-') return sign;
                [[fallthrough]];
            case sign:
            case exponent:
                return digit ? exponent : none;
            case none:
                break;
        }
        return none;
    };
    State state = begin;
    std::size_t at = 0;
    for (; at != text.size(); ++at) {
        const State to = next(state, text[at]);
        if (to == none) break;
        state = to;
    }
    return {at, state == zero || state == whole || state == part || state == exponent};
}

void test_number_end() {
    for (std::size_t size = 0; size <= 6; ++size)
        every_string("-+.eE05x", size, [](std::string_view text) {
            const Stop stop = grammar(text);
            const char* fault = nullptr;
            const char* end = number_end(text.data(), text.data() + text.size(), &fault);
            if (stop.complete) {
                CHECK(end == text.data() + stop.at);
            } else {
                CHECK(end == nullptr && fault == text.data() + stop.at);
            }
        });
}

// value x 10^scale by moving the point in the text.
Exact moved(const std::string& number, int scale) {
    Exact out;
    out.negative = number[0] == '-';
    const std::size_t e = number.find_first_of("eE");
    std::string mantissa = number.substr(out.negative, e == std::string::npos ? e : e - out.negative);
    const int exponent = e == std::string::npos ? 0 : std::stoi(number.substr(e + 1));
    std::size_t point = mantissa.find('.');
    if (point == std::string::npos) {
        point = mantissa.size();
    } else {
        mantissa.erase(point, 1);
    }
    const std::int64_t places = static_cast<std::int64_t>(point) + exponent + scale;
    constexpr std::int64_t kFar = 60;  // zeros enough for the numbers of these tests
    std::string whole = std::string(kFar, '0') + mantissa + std::string(kFar, '0');
    const auto cut = static_cast<std::size_t>(kFar + places);
    out.inexact = whole.find_first_not_of('0', cut) != std::string::npos;
    whole.resize(cut);
    const std::size_t first = whole.find_first_not_of('0');
    whole = first == std::string::npos ? "0" : whole.substr(first);
    const std::string limit = out.negative ? "9223372036854775808" : "9223372036854775807";
    out.overflow = whole.size() > limit.size() || (whole.size() == limit.size() && whole > limit);
    if (!out.overflow)
        out.value = static_cast<std::int64_t>(std::stoull(whole) * (out.negative ? ~std::uint64_t{0} : 1));
    return out;
}

void check_exact(const std::string& number, int scale) {
    const Exact expected = moved(number, scale);
    const Exact found = exact_number(number.data(), number.data() + number.size(), scale);
    const bool good =
        found.overflow == expected.overflow && found.negative == expected.negative &&
        (found.overflow || (found.value == expected.value && found.inexact == expected.inexact));
    if (!good) std::fprintf(stderr, "exact_number(%s, %d)\n", number.c_str(), scale);
    CHECK(good);
}

void test_exact_number() {
    const std::vector<std::string> mantissas = {"0",
                                                "0.0",
                                                "1",
                                                "10",
                                                "1.5",
                                                "1.50",
                                                "0.0001",
                                                "0.00005",
                                                "120.0340",
                                                "9223372036854775807",
                                                "9223372036854775808",
                                                "922337203685477.5807",
                                                "922337203685477.5808",
                                                "92233720368547758.07",
                                                "18446744073709551616",
                                                "0.000000000000000000000000000001",
                                                "100000000000000000000000000000",
                                                "9999999999999999999",
                                                "0.99999999999999999999999999"};
    for (const std::string& mantissa : mantissas)
        for (const char* sign : {"", "-"})
            for (const int scale : {0, 3, 4}) {
                check_exact(sign + mantissa, scale);
                for (int exponent = -25; exponent <= 25; ++exponent)
                    check_exact(sign + mantissa + (exponent % 2 == 0 ? "e" : "E") + std::to_string(exponent),
                                scale);
            }
    // An exponent that no integer type holds moves nothing of a zero and everything of the rest.
    const auto exact = [](std::string_view text) {
        return exact_number(text.data(), text.data() + text.size(), 0);
    };
    CHECK(exact("1e99999999999999999999999999").overflow);
    CHECK(exact("-0e99999999999999999999999999").value == 0 &&
          !exact("0e99999999999999999999999999").overflow);
    CHECK(exact("1e-99999999999999999999999999").inexact &&
          exact("1e-99999999999999999999999999").value == 0);
}

void test_short_number() {
    // What it takes it must take exactly; what it leaves has another form.
    const auto check = [](const std::string& number, int scale) {
        const std::string text = number + ",\"padding behind\"";
        const char* p = text.data();
        std::int64_t value = 0;
        const bool taken = short_number(&p, scale, &value);
        const Stop stop = grammar(number);
        if (taken && p == text.data() + number.size()) {
            const Exact exact = exact_number(number.data(), number.data() + number.size(), scale);
            CHECK(stop.complete && stop.at == number.size());
            CHECK(!exact.overflow && !exact.inexact && exact.value == value);
        }
        return taken && p == text.data() + number.size();
    };
    for (std::size_t size = 1; size <= 6; ++size)
        every_string("-.e059", size, [&](std::string_view text) {
            for (const int scale : {0, 4}) (void)check(std::string(text), scale);
        });
    std::mt19937_64 random(1);
    for (int i = 0; i < 100'000; ++i) {
        const auto any = static_cast<std::int64_t>(random() % 10'000'000);
        const std::string whole = (i % 2 == 0 ? "" : "-") + std::to_string(any >> (i % 24));
        CHECK(check(whole, 0) && check(whole, 4));
        const std::string part = std::to_string(random() % 10'000);
        CHECK(check(whole + "." + std::string(4 - part.size(), '0') + part, 4));
        CHECK(check(whole + "." + part, 4));
    }
    CHECK(!check("12345678", 0) && !check("1.00001", 4) && !check("1.", 4) && !check("-", 0) &&
          !check("01", 0));
}

// ---- time ----

void test_every_day() {
    std::int64_t days = -719'162;  // of 0001-01-01
    IsoMillis clock;
    for (unsigned year = 1; year <= 9'999; ++year) {
        const bool leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
        const unsigned lengths[] = {31, leap ? 29U : 28U, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
        for (unsigned month = 1; month <= 12; ++month) {
            for (unsigned day = 1; day <= lengths[month - 1]; ++day, ++days)
                CHECK(days_from_civil(year, month, day) == days);
            // The last day of a month, and the day that it does not have.
            for (const unsigned day : {lengths[month - 1], lengths[month - 1] + 1}) {
                char text[32];
                std::snprintf(text, sizeof text, "%04u-%02u-%02uT23:59:59.999Z", year, month, day);
                std::int64_t general = 0, usual = 0;
                const bool valid = day == lengths[month - 1];
                CHECK(iso_timestamp({text, IsoMillis::kSize}, false, &general) == valid);
                CHECK(clock.read(text, &usual) == valid);
                CHECK(!valid || (general == days * 86'400'000 - 1 && usual == general));
            }
        }
    }
}

void test_iso_millis_agrees() {
    // Any byte in any place: what the usual form's reader takes, the general reader takes likewise.
    for (const std::string_view begin :
         {"2024-02-29T12:34:56.789Z", "0001-01-01T00:00:00.000Z", "9999-12-31T23:59:59.999Z"}) {
        IsoMillis clock;
        for (std::size_t at = 0; at < begin.size(); ++at)
            for (int byte = 0; byte < 256; ++byte) {
                std::string text(begin);
                text[at] = static_cast<char>(byte);
                std::int64_t usual = 0, general = 0;
                const bool taken = clock.read(text.data(), &usual);
                const bool valid = iso_timestamp(text, false, &general);
                CHECK(!taken || (valid && usual == general));
                const bool digits = byte >= '0' && byte <= '9' && begin[at] >= '0' && begin[at] <= '9';
                if (digits) CHECK(taken == valid);
            }
    }
}

void test_iso_timestamp() {
    struct Case {
        const char* text;
        std::int64_t ms;
    };
    constexpr Case kValid[] = {
        {"1970-01-01T00:00:00Z", 0},
        {"1970-01-01t00:00:01z", 1'000},
        {"1970-01-01 00:00:00.5Z", 500},
        {"1970-01-01T00:00:00,123456789Z", 123},
        {"1969-12-31T23:59:59.9999Z", -1},
        {"1970-01-01T08:00:00+08:00", 0},
        {"1970-01-01T08:00:00+0800", 0},
        {"1970-01-01T08:00:00+08", 0},
        {"1969-12-31T16:29:00-07:31", 0},
        {"0001-01-01T00:00:00Z", kMinTimestampMs},
        {"9999-12-31T23:59:59.999Z", kMaxTimestampMs},
    };
    for (const Case& test : kValid) {
        std::int64_t ms = -7;
        CHECK(iso_timestamp(test.text, false, &ms) && ms == test.ms);
        // Every proper begin but those that end behind the hours of an offset is no date.
        const std::string_view text = test.text;
        for (std::size_t size = 0; size < text.size(); ++size) {
            const std::size_t sign = text.substr(0, size).find_first_of("+-", 11);
            const bool hours = sign != std::string_view::npos && size == sign + 3;
            CHECK(iso_timestamp(text.substr(0, size), false, &ms) == hours);
        }
    }
    for (const char* text :
         {"0000-01-01T00:00:00Z",      "2024-13-01T00:00:00Z",      "2024-00-01T00:00:00Z",
          "2024-01-32T00:00:00Z",      "2024-01-00T00:00:00Z",      "2023-02-29T00:00:00Z",
          "2024-01-01T24:00:00Z",      "2024-01-01T00:60:00Z",      "2024-01-01T00:00:60Z",
          "2024-01-01T00:00:00+24:00", "2024-01-01T00:00:00+00:60", "2024-01-01T00:00:00.Z",
          "2024-01-01T00:00:00ZZ",     "2024-01-01_00:00:00Z",      "20240101T000000Z",
          "2024-1-01T00:00:00Z",       "0001-01-01T00:00:00+00:01", "9999-12-31T23:59:59-00:01",
          " 2024-01-01T00:00:00Z",     "2024-01-01T00:00:00+8"}) {
        std::int64_t ms = 0;
        CHECK(!iso_timestamp(text, true, &ms));
    }
    std::int64_t ms = 1;
    CHECK(iso_timestamp("1970-01-01T00:00:00", true, &ms) && ms == 0);
    CHECK(!iso_timestamp("1970-01-01T00:00:00", false, &ms));
}

// ---- text ----

// The size of the character at the begin of `text`, by decoding it and encoding it again; 0 when it is none.
std::size_t character(std::string_view text) {
    const auto byte = [&](std::size_t i) { return static_cast<unsigned char>(text[i]); };
    const std::size_t size = byte(0) < 0x80   ? 1
                             : byte(0) < 0xc0 ? 0
                             : byte(0) < 0xe0 ? 2
                             : byte(0) < 0xf0 ? 3
                             : byte(0) < 0xf8 ? 4
                                              : 0;
    if (size == 0 || size > text.size()) return 0;
    std::uint32_t point = size == 1 ? byte(0) : byte(0) & (0x7fU >> size);
    for (std::size_t i = 1; i < size; ++i) {
        if ((byte(i) & 0xc0) != 0x80) return 0;
        point = point << 6 | (byte(i) & 0x3f);
    }
    const std::size_t shortest = point < 0x80 ? 1 : point < 0x800 ? 2 : point < 0x10000 ? 3 : 4;
    const bool legal = point <= 0x10ffff && (point < 0xd800 || point > 0xdfff);
    return legal && shortest == size ? size : 0;
}

constexpr std::string_view kBoundaryBytes(
    "\x00\x41\x7f\x80\x8f\x90\x9f\xa0\xbf\xc0\xc1\xc2\xdf\xe0\xe1\xec\xed\xee\xef\xf0\xf1\xf3\xf4\xf5\xff",
    25);

void test_utf8_fault() {
    for (std::size_t size = 0; size <= 4; ++size)
        every_string(kBoundaryBytes, size, [](std::string_view text) {
            std::string_view rest = text;
            while (!rest.empty()) {
                const std::size_t found = character(rest);
                if (found == 0) break;
                rest.remove_prefix(found);
            }
            CHECK(utf8_fault(text.data(), text.data() + text.size()) == rest.data());
        });
}

void test_utf8_is_cut() {
    const std::string_view follows = "\x80\x8f\x90\x9f\xa0\xbf";
    for (std::size_t size = 1; size <= 3; ++size)
        every_string(kBoundaryBytes, size, [&](std::string_view text) {
            bool goes_on = false;
            for (std::size_t more = 1; text.size() + more <= 4; ++more)
                every_string(follows, more, [&](std::string_view behind) {
                    const std::string whole = std::string(text) + std::string(behind);
                    goes_on |= character(whole) == whole.size();
                });
            CHECK(utf8_is_cut(text.data(), text.data() + text.size()) == goes_on);
        });
    CHECK(!utf8_is_cut(follows.data(), follows.data()));
}

struct Unescaped {
    std::string text;
    std::ptrdiff_t behind;  // -1 on a fault
    std::ptrdiff_t fault;
    bool lone_surrogate;
};
Unescaped unescaped(std::string_view text) {
    Unescaped out{{}, -1, -1, false};
    const char* fault = text.data() - 1;
    const char* behind =
        unescape(text.data(), text.data() + text.size(), &out.text, &fault, &out.lone_surrogate);
    if (behind != nullptr) out.behind = behind - text.data();
    if (behind == nullptr) out.fault = fault - text.data();
    return out;
}

void test_unescape() {
    struct Case {
        std::string_view text;
        std::string_view expected;
    };
    const Case valid[] = {
        {R"(plain")", "plain"},
        {R"(")", ""},
        {R"(\"\\\/\b\f\n\r\t")", "\"\\/\b\f\n\r\t"},
        {R"(\u0041\u00e9\u6df1\u000a")", "Aé深\n"},
        {R"(\u0000")", std::string_view("\0", 1)},
        {R"(\uD83D\uDE00\ud83d\ude00")", "😀😀"},
        {R"(\udbff\udfff\ud800\udc00")", "\xf4\x8f\xbf\xbf\xf0\x90\x80\x80"},
        {"深\xff\"", "深\xff"},  // UTF-8 is not its concern
    };
    for (const Case& test : valid) {
        const Unescaped found = unescaped(test.text);
        CHECK(found.text == test.expected && !found.lone_surrogate);
        CHECK(found.behind == static_cast<std::ptrdiff_t>(test.text.size()));
        // Cut anywhere it never ends, and says so.
        for (std::size_t size = 0; size < test.text.size(); ++size)
            CHECK(unescaped(test.text.substr(0, size)).fault == static_cast<std::ptrdiff_t>(size));
    }
    for (const std::string_view lone : {R"(\ud800")", R"(\udc00")", R"(\ud800x")", R"(\ud800\n")",
                                        R"(\ud800\ud800")", R"(\udc00\ud800")", R"(\ud800\u0041")"})
        CHECK(unescaped(lone).lone_surrogate &&
              unescaped(lone).behind == static_cast<std::ptrdiff_t>(lone.size()));
    struct Fault {
        std::string_view text;
        std::ptrdiff_t at;
    };
    for (const Fault& test : {Fault{"a\nb\"", 1}, Fault{"\x1f\"", 0}, Fault{R"(\x")", 1},
                              Fault{R"(\u12g4")", 4}, Fault{R"(\U0041")", 1}, Fault{R"(\ud800\u00g0")", 10},
                              Fault{std::string_view("\\\0\"", 3), 1}, Fault{R"(\u 041")", 2}})
        CHECK(unescaped(test.text).fault == test.at);
}

}  // namespace
}  // namespace omnistream::json

int main() {
    using namespace omnistream::json;
    test_number_end();
    test_exact_number();
    test_short_number();
    test_every_day();
    test_iso_millis_agrees();
    test_iso_timestamp();
    test_utf8_fault();
    test_utf8_is_cut();
    test_unescape();
    return report("test_json_values");
}
