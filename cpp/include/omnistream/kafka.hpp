// Kafka in and out, over a librdkafka that is loaded at run time: messages arrive in blocks per partition
// that the decoder takes as they are, results leave as JSON rendered from columns.
#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "omnistream/batch.hpp"
#include "omnistream/buffer.hpp"
#include "omnistream/status.hpp"

struct rd_kafka_s;
struct rd_kafka_queue_s;

namespace omnistream {

struct KafkaLibrary;  // functions of librdkafka; cpp/src/rdkafka_abi.hpp

// Loads the library at `path`, a file or a name that the dynamic linker resolves. A process has one.
Status load_kafka_library(const std::string& path, std::shared_ptr<const KafkaLibrary>* out);
[[nodiscard]] std::string kafka_library_version(const KafkaLibrary& library);

using KafkaSettings = std::vector<std::pair<std::string, std::string>>;

// Offsets that stand for a place; as librdkafka numbers them.
inline constexpr std::int64_t kKafkaBeginning = -2;
inline constexpr std::int64_t kKafkaEnd = -1;
inline constexpr std::int64_t kKafkaNoOffset = -1001;

struct KafkaPartition {
    std::string topic;
    std::int32_t partition = 0;
    std::int64_t offset = kKafkaNoOffset;
    std::string metadata;   // of a committed offset
    std::int64_t end = -1;  // for assign(): the first offset that is not read; -1: there is no end
};

// What a message carries besides its value. Off by default: each costs a call or a copy per message.
struct KafkaDetails {
    bool timestamps = false;
    bool keys = false;
    std::vector<std::string> headers;  // by name; of several the last
};

// Messages of one partition in order of their offsets, their values in one piece of memory without gaps.
// Offsets may have gaps (compaction, the markers of transactions); tombstones are no messages.
struct MessageBlock {
    std::string topic;
    std::int32_t partition = 0;
    std::int64_t first_offset = 0;             // of ordinal 0
    std::int64_t next_offset = 0;              // where the next block starts
    std::int64_t tombstones = 0;               // messages without a value, which are skipped
    std::int64_t newest_ms = -1;               // the largest timestamp, when timestamps are asked for
    std::shared_ptr<const Array<char>> bytes;  // the values, and then room for the loads of the decoder
    std::int64_t value_bytes = 0;
    std::int64_t count = 0;  // of messages
    KeptVector<Message> messages;
    Array<std::int64_t> timestamps_ms;  // per message, when asked for; -1: it has none
    Array<std::int32_t> ordinals;       // per message; `messages` may be moved out
    // Keys and headers, when asked for: per message and name the bytes in `details`; size 0xFFFFFFFF: none.
    struct Text {
        std::uint64_t at;
        std::uint32_t size;
    };
    static constexpr std::uint32_t kNone = 0xFFFFFFFF;
    Array<char> details;
    Array<Text> keys;
    std::vector<std::string> header_names;
    std::vector<Array<Text>> headers;
};

// A block's messages for the decoder, which may be asked for them once.
[[nodiscard]] std::shared_ptr<Origin> origin_of_block(const std::shared_ptr<MessageBlock>& block);

// A column `value` (binary) of the messages that are left in a block; shares its memory. For formats that are
// not decoded from messages one by one.
[[nodiscard]] std::shared_ptr<Batch> batch_of_block(const MessageBlock& block);
// A decoded batch with columns of what its messages carried: (column, detail), where a detail is "key",
// "timestamp", "partition", "offset" or "header:<name>". Keys and headers that are no UTF-8 are null.
Status with_details(const Batch& batch, const MessageBlock& block,
                    const std::vector<std::pair<std::string, std::string>>& columns,
                    std::shared_ptr<Batch>* out);

// Log lines and connection errors of one client, written by librdkafka's threads and read by ours. Bounded.
class KafkaLog {
public:
    void add(int level, std::string line);
    [[nodiscard]] std::vector<std::pair<int, std::string>> take();
    void note_error(int code, std::string reason);
    // The last connection error: what a request that timed out was waiting for.
    [[nodiscard]] std::pair<int, std::string> last_error() const;

private:
    static constexpr std::size_t kMost = 1'000;
    mutable std::mutex mutex_;
    std::vector<std::pair<int, std::string>> lines_;
    std::size_t dropped_ = 0;
    std::pair<int, std::string> error_{0, ""};
};

enum class RebalanceKind : std::uint8_t { none, assigned, revoked, lost };

struct Rebalance {
    RebalanceKind kind = RebalanceKind::none;
    std::vector<KafkaPartition> partitions;
};

struct PollLimits {
    std::size_t bytes = 4 << 20;  // a poll ends when it has taken so much
    std::size_t messages = 1 << 16;
};

struct PollResult {
    std::vector<std::shared_ptr<MessageBlock>> blocks;
    std::vector<KafkaPartition> ends;  // partitions read to their present end, with the offset of that
};

class BlockPool;

// One consumer. One thread at a time may use it.
class KafkaConsumer {
public:
    // `settings` as users write them, `defaults` for what they left open.
    static Status open(std::shared_ptr<const KafkaLibrary> library, const KafkaSettings& settings,
                       const KafkaSettings& defaults, KafkaDetails details,
                       std::unique_ptr<KafkaConsumer>* out);
    ~KafkaConsumer();
    KafkaConsumer(const KafkaConsumer&) = delete;
    KafkaConsumer& operator=(const KafkaConsumer&) = delete;

    // Partitions of every topic that the cluster shows, by name. Fails when no broker answers.
    Status topics(int timeout_ms, std::vector<std::pair<std::string, std::int32_t>>* out);
    // Earliest and next offsets, one request per partition.
    Status range(const std::string& topic, std::int32_t partition, int timeout_ms, std::int64_t* low,
                 std::int64_t* high);
    // `offset` holds a time in ms on entry, on return the first offset not before it (kKafkaEnd: none).
    Status offsets_at(std::vector<KafkaPartition>* partitions, int timeout_ms);
    // The group's committed offsets and their metadata; kKafkaNoOffset where there is none.
    Status committed(std::vector<KafkaPartition>* partitions, int timeout_ms);
    // `refused`: the group has moved on without this member.
    Status commit(const std::vector<KafkaPartition>& partitions, bool* refused);

    Status subscribe(const std::vector<std::string>& topics);
    // Reads `partitions` from their offsets, besides those that are read already. With a subscription only
    // for partitions that a rebalance has handed over.
    Status assign(const std::vector<KafkaPartition>& partitions);
    Status unassign(const std::vector<KafkaPartition>& partitions);
    // Moves partitions that are read to other offsets, paused ones as well. What was fetched is dropped.
    Status seek(const std::vector<KafkaPartition>& partitions, int timeout_ms);
    Status pause(const std::vector<KafkaPartition>& partitions);
    [[nodiscard]] bool cooperative() const;

    // Waits up to `timeout_ms` for a message, then takes what is there up to the limits. Ends early when the
    // group rebalances: take_rebalance() then says how, and it must be answered by assign() or unassign().
    Status poll(int timeout_ms, const PollLimits& limits, PollResult* out);
    [[nodiscard]] Rebalance take_rebalance();

    // The next offset of the log as the last fetch knew it; -1 before that.
    [[nodiscard]] std::int64_t high_watermark(const std::string& topic, std::int32_t partition) const;
    [[nodiscard]] KafkaLog& log() { return log_; }
    Status close();  // leaves the group

    [[nodiscard]] const std::shared_ptr<const KafkaLibrary>& library() const { return library_; }
    [[nodiscard]] rd_kafka_s* handle() const { return client_; }

private:
    struct Callbacks;
    KafkaConsumer() = default;
    Status failed(const std::string& what, int error, const std::string& detail = "") const;

    std::shared_ptr<const KafkaLibrary> library_;
    rd_kafka_s* client_ = nullptr;
    rd_kafka_queue_s* queue_ = nullptr;
    KafkaDetails details_;
    KafkaLog log_;
    std::vector<Rebalance> rebalances_;
    Rebalance asked_;                   // what was taken, until it is answered
    std::vector<KafkaPartition> ends_;  // of assigned partitions that have one
    std::shared_ptr<BlockPool> pool_;
    bool subscribed_ = false;
    bool closing_ = false;
};

// One producer; with a transactional.id it sends in transactions only. One thread at a time may use it.
class KafkaProducer {
public:
    static Status open(std::shared_ptr<const KafkaLibrary> library, const KafkaSettings& settings,
                       const KafkaSettings& defaults, std::unique_ptr<KafkaProducer>* out);
    ~KafkaProducer();
    KafkaProducer(const KafkaProducer&) = delete;
    KafkaProducer& operator=(const KafkaProducer&) = delete;

    // Partitions of a topic, which some brokers make when asked; 0: there is none. Fails when none answers.
    Status partitions(const std::string& topic, int timeout_ms, std::int32_t* count);

    using Headers = std::vector<std::pair<std::string, std::string>>;
    // A message per row. Keys, values and row headers are texts by ordinal (see import_messages): a row
    // without a key has none, one without a value is a tombstone. Waits while the local queue is full.
    using RowHeaders = std::vector<std::pair<std::string, std::shared_ptr<const Origin>>>;
    Status produce(const std::string& topic, std::int32_t rows, const Origin* keys, const Origin& values,
                   const Headers& headers, const RowHeaders& row_headers, bool* must_abort);
    // Waits until all that was produced is delivered. The first message that could not be is an error, here
    // or at the next call.
    Status flush(int timeout_ms);

    Status init_transactions(int timeout_ms);
    Status begin();
    Status send_offsets(const std::vector<KafkaPartition>& offsets, KafkaConsumer& group, int timeout_ms,
                        bool* must_abort);
    Status commit(int timeout_ms, bool* must_abort);
    Status abort(int timeout_ms);

    [[nodiscard]] KafkaLog& log() { return log_; }

private:
    struct Callbacks;
    KafkaProducer() = default;
    Status failed(const std::string& what, int error, const std::string& detail = "") const;
    Status finish(const std::string& what, void* error, bool* must_abort);
    Status delivery(bool* must_abort = nullptr) const;
    Status cause(Status failure, bool* must_abort) const;

    std::shared_ptr<const KafkaLibrary> library_;
    rd_kafka_s* client_ = nullptr;
    KafkaLog log_;
    bool transactional_ = false;
    mutable std::mutex mutex_;
    int undelivered_error_ = 0;  // of the first message that was not delivered
    std::string undelivered_topic_;
};

}  // namespace omnistream
