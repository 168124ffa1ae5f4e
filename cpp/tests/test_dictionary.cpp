#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <random>
#include <set>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "check.hpp"
#include "omnistream/codes.hpp"
#include "omnistream/dictionary.hpp"

using namespace omnistream;

namespace {

std::string random_text(std::mt19937_64& random, std::size_t size, int alphabet) {
    std::string text(size, '\0');
    for (char& c : text) c = static_cast<char>(random() % static_cast<unsigned>(alphabet));
    return text;
}

void sizes_and_zeros() {
    Dictionary dictionary;
    std::vector<std::string> texts;
    for (std::size_t size = 0; size <= 40; ++size) {
        texts.emplace_back(size, '\0');
        if (size == 0) continue;
        texts.emplace_back(size, 'x');
        texts.emplace_back(std::string(size - 1, 'x') + "y");    // differs in the last byte
        texts.push_back(std::string(1, 'y').append(size, 'x'));  // differs in the first
        texts.emplace_back(std::string(size, 'x') + '\0');       // and in the size alone
    }
    std::sort(texts.begin(), texts.end());
    texts.erase(std::unique(texts.begin(), texts.end()), texts.end());
    for (std::size_t i = 0; i < texts.size(); ++i) {
        CHECK(dictionary.find(texts[i]) == -1);
        CHECK(dictionary.encode(texts[i]) == static_cast<std::int32_t>(i));
    }
    for (std::size_t i = 0; i < texts.size(); ++i) {
        CHECK(dictionary.find(texts[i]) == static_cast<std::int32_t>(i));
        CHECK(dictionary.encode(texts[i]) == static_cast<std::int32_t>(i));
        CHECK(dictionary.value(static_cast<std::int32_t>(i)) == texts[i]);
    }
    CHECK(dictionary.size() == static_cast<std::int32_t>(texts.size()));
    CHECK(dictionary.find({}) == dictionary.encode(std::string_view("")));
}

// A fifth of the strings agree in their last bytes, of which one word of a long key is made.
void against_unordered_map() {
    std::mt19937_64 random(7);
    Dictionary one_by_one;
    Dictionary batched;
    std::unordered_map<std::string, std::int32_t> expected;
    std::vector<std::string> texts;
    for (int i = 0; i < 200'000; ++i) {
        const std::size_t size = random() % 41;
        std::string text = random_text(random, size, i % 2 == 0 ? 3 : 256);
        if (i % 5 == 0) text += "common tail";
        texts.push_back(std::move(text));
    }
    std::vector<Text> views;
    std::vector<std::int32_t> codes(texts.size());
    for (const std::string& text : texts)
        views.push_back({text.data(), static_cast<std::uint32_t>(text.size())});
    // Uneven chunks, so that groups of every length occur.
    for (std::size_t begin = 0, step = 1; begin < texts.size(); begin += step, step = step * 3 % 1009) {
        const std::size_t count = std::min(step, texts.size() - begin);
        batched.encode(views.data() + begin, count, codes.data() + begin);
    }
    bool same = true;
    for (std::size_t i = 0; i < texts.size(); ++i) {
        const auto next = static_cast<std::int32_t>(expected.size());
        const std::int32_t code = expected.try_emplace(texts[i], next).first->second;
        same = same && one_by_one.encode(texts[i]) == code && codes[i] == code &&
               batched.value(code) == texts[i];
    }
    CHECK(same);
    CHECK(batched.size() == static_cast<std::int32_t>(expected.size()));
    CHECK(one_by_one.find("not there, and long enough") == -1);
    CHECK(batched.memory_bytes() > 0);

    Dictionary restored;
    CHECK(restored.restore(batched.to_column("value")).ok());
    CHECK(restored.size() == batched.size());
    same = true;
    for (std::int32_t code = 0; code < batched.size(); ++code)
        same =
            same && restored.value(code) == batched.value(code) && restored.find(batched.value(code)) == code;
    CHECK(same);
}

void at_the_end_of_memory() {
    const auto page = static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
    void* mapped = mmap(nullptr, 2 * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(mapped != MAP_FAILED);
    char* const end = static_cast<char*>(mapped) + page;
    CHECK(mprotect(end, page, PROT_NONE) == 0);
    std::memset(mapped, 'z', page);
    Dictionary dictionary;
    std::vector<Text> texts;
    for (std::uint32_t size = 0; size <= 40; ++size) texts.push_back({end - size, size});
    std::vector<std::int32_t> codes(texts.size());
    dictionary.encode(texts.data(), texts.size(), codes.data());
    for (std::uint32_t size = 0; size <= 40; ++size) {
        CHECK(codes[size] == static_cast<std::int32_t>(size));
        CHECK(dictionary.encode(std::string_view(end - size, size)) == codes[size]);
        CHECK(dictionary.find(std::string(size, 'z')) == codes[size]);
    }
    munmap(mapped, 2 * page);
}

void rank_orders_by_bytes() {
    Dictionary dictionary;
    CHECK(dictionary.rank().empty());
    std::mt19937_64 random(11);
    std::vector<std::string> texts;
    for (int round = 0; round < 3; ++round) {
        for (int i = 0; i < 3'000; ++i) {
            std::string text = random_text(random, random() % 24, i % 2 == 0 ? 2 : 256);
            if (i % 3 == 0) text = "shared prefix " + text;
            if (dictionary.encode(text) == static_cast<std::int32_t>(texts.size())) texts.push_back(text);
        }
        const std::vector<std::int32_t>& rank = dictionary.rank();
        std::vector<std::string> sorted = texts;
        std::sort(sorted.begin(), sorted.end());  // std::string compares as unsigned bytes
        CHECK(rank.size() == texts.size());
        bool same = true;
        for (std::size_t code = 0; code < texts.size(); ++code)
            same = same && sorted[static_cast<std::size_t>(rank[code])] == texts[code];
        CHECK(same);
    }
}

Column utf8(const std::vector<std::string>& texts) {
    Dictionary source;
    Array<std::int32_t> offsets;
    Array<char> bytes;
    offsets.push_back(0);
    for (const std::string& text : texts) {
        bytes.append(text.data(), text.size());
        offsets.push_back(static_cast<std::int32_t>(bytes.size()));
    }
    Column column = source.to_column("value");
    column.length = static_cast<std::int64_t>(texts.size());
    column.offsets = offsets.finish();
    column.values = bytes.finish();
    return column;
}

void refused_restores() {
    Dictionary dictionary;
    CHECK(dictionary.restore(utf8({"a", "b", "a"})).code() == Code::state);
    CHECK(dictionary.size() == 0);
    CHECK(dictionary.find("a") == -1);
    Column numbers = utf8({"a"});
    numbers.type = Type::int64;
    CHECK(dictionary.restore(numbers).code() == Code::state);
    CHECK(dictionary.restore(utf8({"a", "", "b"})).ok());
    CHECK(dictionary.find("") == 1);
    CHECK(dictionary.restore(utf8({"c"})).code() == Code::state);
    CHECK(dictionary.size() == 3);
    CHECK(Dictionary().restore(Dictionary().to_column("value")).ok());
}

void byte_order_as_texts_come() {
    Dictionary dictionary;
    ByteOrder order;
    std::mt19937_64 random(5);
    for (int round = 0; round < 20; ++round) {
        for (std::uint64_t i = random() % 50; i > 0; --i) {
            std::string text(random() % 12, 'k');
            for (char& letter : text)
                if (random() % 3 == 0) letter = static_cast<char>(random());
            dictionary.encode(text);
        }
        std::set<std::string_view> sorted;
        for (std::int32_t code = 0; code < dictionary.size(); ++code) sorted.insert(dictionary.value(code));
        std::int32_t rank = 0;
        const std::vector<std::int32_t>& ranks = order.ranks(dictionary);
        for (const std::string_view text : sorted)
            CHECK(ranks[static_cast<std::size_t>(dictionary.find(text))] == rank++);
    }
}

}  // namespace

int main() {
    sizes_and_zeros();
    against_unordered_map();
    at_the_end_of_memory();
    rank_orders_by_bytes();
    byte_order_as_texts_come();
    refused_restores();
    return report("dictionary");
}
