// Frozen state is what it was, whatever is done to the living meanwhile, and by whom.
#include <algorithm>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "check.hpp"
#include "omnistream/dictionary.hpp"
#include "omnistream/group_table.hpp"

using namespace omnistream;

namespace {

constexpr std::size_t kBlock = GroupTable::kBlock;

// Looks up a block of random keys and adds 1 to each group's word.
void touch(GroupTable* table, std::size_t keys, std::mt19937_64* random) {
    std::uint64_t wanted[kBlock];
    std::uint32_t rows[kBlock];
    for (std::uint64_t& key : wanted) key = (*random)() % keys;
    table->find_or_insert(wanted, kBlock, rows);
    for (const std::uint32_t row : rows) ++table->row(row)[1];
}

std::vector<std::uint64_t> copy_of(const GroupTable& table) {
    std::vector<std::uint64_t> words;
    for (std::size_t number = 0; number < table.size(); ++number)
        words.insert(words.end(), table.row(number), table.row(number) + 3);
    return words;
}

std::vector<std::uint64_t> read_all(FrozenRows* frozen, std::mt19937_64* random) {
    std::vector<std::uint64_t> words(frozen->size() * frozen->stride());
    for (std::size_t first = 0; first < frozen->size();) {
        const std::size_t count = std::min<std::size_t>(1 + (*random)() % kBlock, frozen->size() - first);
        frozen->read(count, words.data() + first * frozen->stride());
        first += count;
    }
    return words;
}

// Reads and writes take turns in any order; new keys come, and the table grows or not.
void rows_are_what_they_were() {
    std::mt19937_64 random(7);
    for (int round = 0; round < 200; ++round) {
        GroupTable table(1, {0, 5});
        const std::size_t keys = 1 + random() % 5'000;
        for (std::size_t i = random() % 8; i > 0; --i) touch(&table, keys, &random);
        const std::vector<std::uint64_t> expected = copy_of(table);
        const std::shared_ptr<FrozenRows> frozen = table.freeze();
        std::vector<std::uint64_t> words(expected.size());
        const std::size_t later_keys = random() % 2 == 0 ? keys : keys * 4;
        for (std::size_t first = 0; first < frozen->size();) {
            if (random() % 2 == 0) {
                touch(&table, later_keys, &random);
                continue;
            }
            const std::size_t count = std::min<std::size_t>(1 + random() % kBlock, frozen->size() - first);
            frozen->read(count, words.data() + first * 3);
            first += count;
        }
        CHECK(words == expected);
    }
}

void several_snapshots_at_once() {
    std::mt19937_64 random(8);
    GroupTable table(1, {0, 5});
    std::vector<std::vector<std::uint64_t>> expected;
    std::vector<std::shared_ptr<FrozenRows>> frozen;
    for (int i = 0; i < 6; ++i) {
        for (int j = 0; j < 4; ++j) touch(&table, 3'000, &random);
        expected.push_back(copy_of(table));
        frozen.push_back(table.freeze());
        if (i == 3) table.keep_all();
    }
    touch(&table, 3'000, &random);
    for (std::size_t i = frozen.size(); i-- > 0;) {
        CHECK(read_all(frozen[i].get(), &random) == expected[i]);
        frozen[i]->finish();
        touch(&table, 3'000, &random);
    }
}

void a_table_may_go_before_its_snapshot_is_read() {
    std::mt19937_64 random(9);
    std::shared_ptr<FrozenRows> frozen;
    std::vector<std::uint64_t> expected;
    {
        GroupTable table(1, {0, 5});
        touch(&table, 3'000, &random);
        expected = copy_of(table);
        frozen = table.freeze();
        touch(&table, 3'000, &random);
    }
    CHECK(read_all(frozen.get(), &random) == expected);
}

void another_thread_reads() {
    std::mt19937_64 random(10);
    GroupTable table(1, {0, 5});
    Dictionary dictionary;
    for (int round = 0; round < 20; ++round) {
        for (int i = 0; i < 20; ++i) touch(&table, 20'000, &random);
        for (int i = 0; i < 500; ++i) dictionary.encode(std::to_string(random() % 100'000));
        const std::vector<std::uint64_t> expected = copy_of(table);
        const Column texts = dictionary.to_column("texts");
        const std::shared_ptr<FrozenRows> frozen = table.freeze();
        const std::shared_ptr<const Dictionary> strings = dictionary.freeze();
        std::vector<std::uint64_t> words;
        Column column;
        std::thread reader([&, seed = random()] {
            std::mt19937_64 chance(seed);
            words = read_all(frozen.get(), &chance);
            column = strings->to_column("texts");
            frozen->finish();
        });
        for (int i = 0; i < 50; ++i) {
            touch(&table, round % 3 == 0 ? 40'000 : 20'000, &random);
            dictionary.encode(std::to_string(random() % 100'000));
        }
        reader.join();
        CHECK(words == expected);
        CHECK(column.length == texts.length);
        for (std::int64_t row = 0; row < texts.length; ++row) CHECK(column.text(row) == texts.text(row));
    }
}

}  // namespace

int main() {
    rows_are_what_they_were();
    several_snapshots_at_once();
    a_table_may_go_before_its_snapshot_is_read();
    another_thread_reads();
    return report("freeze");
}
