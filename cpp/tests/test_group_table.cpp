// Groups are found again however the table has grown, and numbered by first appearance.
#include <cstdint>
#include <map>
#include <random>
#include <vector>

#include "check.hpp"
#include "omnistream/group_table.hpp"
#include "omnistream/memory.hpp"

using omnistream::GroupTable;
namespace memory = omnistream::memory;

namespace {

constexpr std::uint64_t kFresh = 42;

// Pushes keys in blocks of all sizes and compares numbers and rows with a map's.
void check_against_map(std::size_t key_words, std::size_t keys, std::uint64_t (*spread)(std::uint64_t)) {
    GroupTable table(key_words, {kFresh, 0});
    std::map<std::vector<std::uint64_t>, std::uint32_t> model;
    std::mt19937_64 random(key_words * 31 + keys);
    std::vector<std::uint64_t> block;
    std::uint32_t numbers[GroupTable::kBlock];
    std::uint64_t* rows[GroupTable::kBlock];
    for (std::size_t done = 0; done < keys * 3;) {
        const std::size_t count = 1 + random() % GroupTable::kBlock;
        block.clear();
        for (std::size_t i = 0; i < count; ++i) {
            const std::uint64_t key = spread(random() % keys);
            for (std::size_t word = 0; word < key_words; ++word) block.push_back(word == 0 ? key : key % 7);
        }
        table.find_or_insert(block.data(), count, numbers, rows);
        for (std::size_t i = 0; i < count; ++i) {
            const auto key = block.begin() + static_cast<std::ptrdiff_t>(i * key_words);
            const auto next = static_cast<std::uint32_t>(model.size());
            const auto found = model.try_emplace({key, key + static_cast<std::ptrdiff_t>(key_words)}, next);
            CHECK(numbers[i] == found.first->second);
            CHECK(rows[i] == table.row(numbers[i]));
            CHECK(rows[i][0] == block[i * key_words]);
            CHECK(rows[i][key_words] == kFresh);
            ++rows[i][key_words + 1];
        }
        done += count;
    }
    CHECK(table.size() == model.size());
    std::uint64_t added = 0;
    for (std::size_t number = 0; number < table.size(); ++number) added += table.row(number)[key_words + 1];
    CHECK(added >= keys * 3);
}

void test_numbers_by_first_appearance() {
    const auto dense = [](std::uint64_t key) { return key; };
    const auto high = [](std::uint64_t key) { return key << 40; };
    const auto scattered = [](std::uint64_t key) { return key * 0x9e3779b97f4a7c15; };
    for (const std::size_t key_words : {1, 2, 3}) {
        for (const std::size_t keys : {1, 40, 5'000}) {
            check_against_map(key_words, keys, dense);
            check_against_map(key_words, keys, high);
            check_against_map(key_words, keys, scattered);
        }
    }
}

// More rows than one slab holds, and room made at once.
void test_slabs() {
    check_against_map(1, 120'000, [](std::uint64_t key) { return key * 0x9e3779b97f4a7c15; });
    constexpr std::uint64_t kRows = 100'000;
    GroupTable grown(1, {0});
    GroupTable reserved(1, {0});
    reserved.reserve(kRows);
    for (std::uint64_t key = 0; key < kRows; ++key) {
        std::uint32_t a = 0;
        std::uint32_t b = 0;
        grown.find_or_insert(&key, 1, &a);
        reserved.find_or_insert(&key, 1, &b);
        CHECK(a == key && b == key);
    }
    // A row of 16 bytes, and at most 16 of the index.
    CHECK(grown.memory_bytes() <= static_cast<std::int64_t>(kRows * 32 + (std::uint64_t{1} << 20)));
    CHECK(reserved.memory_bytes() == grown.memory_bytes());
}

void test_kept_memory() {
    constexpr std::size_t kBlockBytes = std::size_t{48} << 20;
    {
        std::vector<memory::Held> blocks;
        for (int i = 0; i < 4; ++i) blocks.emplace_back(kBlockBytes);
        for (memory::Held& block : blocks) block.as<std::uint8_t>()[kBlockBytes - 1] = 1;
    }
    const std::size_t kept = memory::kept_bytes();
    CHECK(kept <= memory::kMostKept);
    const memory::Held again(kBlockBytes);
    again.as<std::uint8_t>()[0] = 2;
    CHECK(kept == 0 || memory::kept_bytes() == kept - again.size());
}

}  // namespace

int main() {
    test_numbers_by_first_appearance();
    test_slabs();
    test_kept_memory();
    return report("group table");
}
