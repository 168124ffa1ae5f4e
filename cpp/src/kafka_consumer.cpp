// Messages in: librdkafka's queue is emptied in batches, and each value copied once, into the block of its
// partition. bench/NOTES.md has what that costs.
#include <algorithm>
#include <chrono>
#include <cstring>
#include <deque>
#include <limits>
#include <thread>

#include "rdkafka_abi.hpp"

namespace omnistream {

using namespace rdkafka;

// Blocks are used again: the first touch of fresh pages costs more than the copy. A block comes back when the
// last batch or reject that points into it is gone.
class BlockPool : public std::enable_shared_from_this<BlockPool> {
public:
    std::shared_ptr<Array<char>> take() {
        Array<char> bytes;
        {
            const std::lock_guard lock(mutex_);
            if (!free_.empty()) {
                bytes = std::move(free_.back());
                free_.pop_back();
            }
        }
        bytes.clear();
        return {new Array<char>(std::move(bytes)), [pool = weak_from_this()](Array<char>* done) {
                    if (const auto alive = pool.lock()) alive->give(std::move(*done));
                    delete done;
                }};
    }

private:
    // As many as partitions that commonly share a poll; larger blocks than a poll's worth are not kept.
    static constexpr std::size_t kMostKept = 16;
    static constexpr std::size_t kLargestKept = 8 << 20;

    void give(Array<char> bytes) {
        if (bytes.capacity() > kLargestKept) return;
        const std::lock_guard lock(mutex_);
        if (free_.size() < kMostKept) free_.push_back(std::move(bytes));
    }

    std::mutex mutex_;
    std::vector<Array<char>> free_;
};

namespace {

constexpr std::size_t kFirstCapacity = 256 << 10;
constexpr std::size_t kBatch = 1'024;  // messages per call
// Loads of the decoder beyond the last message.
constexpr std::size_t kReadable = 192;

}  // namespace

struct KafkaConsumer::Callbacks {
    static void rebalance(rd_kafka_s* client, int error, rd_kafka_topic_partition_list_t* list,
                          void* opaque) {
        auto* self = static_cast<KafkaConsumer*>(opaque);
        if (self->closing_) {
            self->library_->assign(client, nullptr);
            return;
        }
        Rebalance change;
        change.partitions = from_list(list);
        change.kind = error == kAssignPartitions                     ? RebalanceKind::assigned
                      : self->library_->assignment_lost(client) != 0 ? RebalanceKind::lost
                                                                     : RebalanceKind::revoked;
        self->rebalances_.push_back(std::move(change));
        self->library_->yield(client);  // ends the poll
    }
    static void error(rd_kafka_s*, int error, const char* reason, void* opaque) {
        auto* self = static_cast<KafkaConsumer*>(opaque);
        self->log_.note_error(error, reason);
        self->log_.add(error == kFatal ? 3 : 4, std::string(reason));
    }
    static void log(const rd_kafka_s* client, int level, const char* facility, const char* text) {
        auto* self = static_cast<KafkaConsumer*>(loaded()->opaque(client));
        if (self != nullptr) take_log_line(level, facility, text, &self->log_);
    }
};

Status KafkaConsumer::open(std::shared_ptr<const KafkaLibrary> library, const KafkaSettings& settings,
                           const KafkaSettings& defaults, KafkaDetails details,
                           std::unique_ptr<KafkaConsumer>* out) {
    std::unique_ptr<KafkaConsumer> consumer(new KafkaConsumer);
    consumer->library_ = library;
    consumer->details_ = std::move(details);
    consumer->pool_ = std::make_shared<BlockPool>();
    rd_kafka_conf_s* conf = nullptr;
    OMNI_RETURN_NOT_OK(configure(*library, settings, defaults, Code::source, &conf));
    library->conf_set_opaque(conf, consumer.get());
    library->conf_set_rebalance_cb(conf, &Callbacks::rebalance);
    library->conf_set_error_cb(conf, &Callbacks::error);
    library->conf_set_log_cb(conf, &Callbacks::log);
    char why[512] = "";
    consumer->client_ = library->new_(kConsumer, conf, why, sizeof why);
    if (consumer->client_ == nullptr) {
        library->conf_destroy(conf);
        return {Code::source, std::string("kafka consumer: ") + why + "; mend [source.config]"};
    }
    library->poll_set_consumer(consumer->client_);
    consumer->queue_ = library->queue_get_consumer(consumer->client_);
    *out = std::move(consumer);
    return {};
}

KafkaConsumer::~KafkaConsumer() {
    if (client_ == nullptr) return;
    (void)close();
    library_->queue_destroy(queue_);
    library_->destroy(client_);
}

Status KafkaConsumer::close() {
    if (closing_) return {};
    // The group waits for an answer to each change that it has told, and leaving it would wait for the group.
    while (asked_.kind != RebalanceKind::none || !rebalances_.empty()) {
        const Rebalance change =
            asked_.kind != RebalanceKind::none ? std::exchange(asked_, {}) : take_rebalance();
        (void)(change.kind == RebalanceKind::assigned ? assign(change.partitions)
                                                      : unassign(change.partitions));
    }
    closing_ = true;
    const int error = library_->consumer_close(client_);
    return error == 0 ? Status() : failed("leaving the consumer group", error);
}

// A request that ran out of time says little; the last connection error says why.
Status KafkaConsumer::failed(const std::string& what, int error, const std::string& detail) const {
    if (error == kTimedOut || error == kTransport || error == kAllBrokersDown) {
        if (const auto [code, reason] = log_.last_error(); code != 0)
            return {Code::source, explain(*library_, what, code, reason)};
    }
    return {Code::source, explain(*library_, what, error, detail)};
}

// ---- what the cluster and the group know ----

namespace {

constexpr int kCommitMs = 30'000;

// A group's coordinator or a partition's leader starts, or moves to another broker, where it does not know at
// once how far its partition is committed: librdkafka looks for it, but does not ask again.
bool moves(int error) {
    switch (error) {
        case kLeaderNotAvailable:
        case kNotLeader:
        case kReplicaNotAvailable:
        case kCoordinatorLoads:
        case kCoordinatorNotAvailable:
        case kNotCoordinator:
        case kFencedLeaderEpoch:
        case kUnknownLeaderEpoch:
        case kOffsetNotAvailable:
            return true;
        default:
            return false;
    }
}

int first_error(int error, const rd_kafka_topic_partition_list_t& list) {
    for (int i = 0; error == 0 && i < list.cnt; ++i) error = list.elems[i].err;
    return error;
}

template <class Request>
int ask_until_found(int timeout_ms, Request&& request) {
    constexpr std::chrono::milliseconds kWait(100);
    const auto end = std::chrono::steady_clock::now() + std::chrono::milliseconds(timeout_ms);
    for (;;) {
        const int error = request();
        if (!moves(error) || std::chrono::steady_clock::now() >= end) return error;
        std::this_thread::sleep_for(kWait);
    }
}

}  // namespace

Status KafkaConsumer::topics(int timeout_ms, std::vector<std::pair<std::string, std::int32_t>>* out) {
    const rd_kafka_metadata_t* metadata = nullptr;
    const int error = metadata_of(*library_, client_, nullptr, timeout_ms, log_, &metadata);
    if (error != 0) return failed("kafka: listing topics", error);
    for (int i = 0; i < metadata->topic_cnt; ++i)
        out->emplace_back(metadata->topics[i].topic, metadata->topics[i].partition_cnt);
    library_->metadata_destroy(metadata);
    return {};
}

Status KafkaConsumer::range(const std::string& topic, std::int32_t partition, int timeout_ms,
                            std::int64_t* low, std::int64_t* high) {
    const int error = ask_until_found(timeout_ms, [&] {
        return library_->query_watermark_offsets(client_, topic.c_str(), partition, low, high, timeout_ms);
    });
    if (error == 0) return {};
    return failed(topic + "[" + std::to_string(partition) + "]: asking for its offsets", error);
}

Status KafkaConsumer::offsets_at(std::vector<KafkaPartition>* partitions, int timeout_ms) {
    List list(nullptr, ListDeleter{library_.get()});
    const int error = ask_until_found(timeout_ms, [&] {
        list = to_list(*library_, client_, *partitions);  // anew: an answer takes the place of its question
        return first_error(library_->offsets_for_times(client_, list.get(), timeout_ms), *list);
    });
    if (error != 0) return failed("kafka: asking for offsets by time", error);
    *partitions = from_list(list.get());
    return {};
}

Status KafkaConsumer::committed(std::vector<KafkaPartition>* partitions, int timeout_ms) {
    const List list = to_list(*library_, client_, *partitions);
    const int error = ask_until_found(
        timeout_ms, [&] { return first_error(library_->committed(client_, list.get(), timeout_ms), *list); });
    if (error != 0) return failed("kafka: reading the group's committed offsets", error);
    *partitions = from_list(list.get());
    return {};
}

Status KafkaConsumer::commit(const std::vector<KafkaPartition>& partitions, bool* refused) {
    const List list = to_list(*library_, client_, partitions);
    const int error = ask_until_found(
        kCommitMs, [&] { return first_error(library_->commit(client_, list.get(), 0), *list); });
    *refused = error == kIllegalGeneration || error == kUnknownMember || error == kRebalanceInProgress;
    return error == 0 ? Status() : failed("kafka: committing offsets", error);
}

// ---- what is read ----

Status KafkaConsumer::subscribe(const std::vector<std::string>& topics) {
    std::vector<KafkaPartition> names;
    for (const std::string& topic : topics) names.push_back({topic, -1, kKafkaNoOffset, "", -1});
    const int error = library_->subscribe(client_, to_list(*library_, client_, names).get());
    subscribed_ = error == 0;
    return error == 0 ? Status() : failed("kafka: subscribing", error);
}

bool KafkaConsumer::cooperative() const {
    const char* protocol = library_->rebalance_protocol(client_);
    return protocol != nullptr && std::strcmp(protocol, "COOPERATIVE") == 0;
}

Status KafkaConsumer::assign(const std::vector<KafkaPartition>& partitions) {
    asked_ = {};
    const List list = to_list(*library_, client_, partitions);
    for (const KafkaPartition& each : partitions)
        if (each.end >= 0) ends_.push_back(each);
    if (!cooperative()) {
        const int error = library_->assign(client_, list.get());
        return error == 0 ? Status() : failed("kafka: assigning partitions", error);
    }
    rd_kafka_error_s* error = library_->incremental_assign(client_, list.get());
    if (error == nullptr) return {};
    const Status status =
        failed("kafka: assigning partitions", library_->error_code(error), library_->error_string(error));
    library_->error_destroy(error);
    return status;
}

Status KafkaConsumer::unassign(const std::vector<KafkaPartition>& partitions) {
    asked_ = {};
    std::erase_if(ends_, [&](const KafkaPartition& known) {
        return std::any_of(partitions.begin(), partitions.end(), [&](const KafkaPartition& gone) {
            return gone.partition == known.partition && gone.topic == known.topic;
        });
    });
    if (!cooperative()) {
        const int error = library_->assign(client_, nullptr);
        return error == 0 ? Status() : failed("kafka: giving partitions back", error);
    }
    rd_kafka_error_s* error =
        library_->incremental_unassign(client_, to_list(*library_, client_, partitions).get());
    if (error == nullptr) return {};
    const Status status =
        failed("kafka: giving partitions back", library_->error_code(error), library_->error_string(error));
    library_->error_destroy(error);
    return status;
}

Status KafkaConsumer::seek(const std::vector<KafkaPartition>& partitions, int timeout_ms) {
    const List list = to_list(*library_, client_, partitions);
    rd_kafka_error_s* error = library_->seek_partitions(client_, list.get(), timeout_ms);
    int code = 0;
    if (error != nullptr) {
        code = library_->error_code(error);
        library_->error_destroy(error);
    }
    for (int i = 0; code == 0 && i < list->cnt; ++i) code = list->elems[i].err;
    if (code == 0) code = library_->resume_partitions(client_, list.get());
    return code == 0 ? Status() : failed("kafka: going back to the committed offsets", code);
}

Status KafkaConsumer::pause(const std::vector<KafkaPartition>& partitions) {
    const List list = to_list(*library_, client_, partitions);
    const int error = library_->pause_partitions(client_, list.get());
    return error == 0 ? Status() : failed("kafka: pausing partitions", error);
}

std::int64_t KafkaConsumer::high_watermark(const std::string& topic, std::int32_t partition) const {
    std::int64_t low = -1, high = -1;
    if (library_->get_watermark_offsets(client_, topic.c_str(), partition, &low, &high) != 0) return -1;
    return high;
}

Rebalance KafkaConsumer::take_rebalance() {
    if (rebalances_.empty()) return {};
    asked_ = std::move(rebalances_.front());
    rebalances_.erase(rebalances_.begin());
    return asked_;
}

// ---- messages ----

namespace {

// Takes messages of many partitions in turn, and builds a block of each.
class BlockReader {
public:
    BlockReader(const KafkaLibrary& library, const KafkaDetails& details,
                const std::vector<KafkaPartition>& ends, BlockPool& pool)
        : library_(library), details_(details), ends_(ends), pool_(pool) {}

    void take(const rd_kafka_message_t& message) {
        // Fetches give long runs of one partition.
        if (message.rkt != slot_->rkt || message.partition != slot_->partition ||
            message.offset - slot_->block->first_offset > std::numeric_limits<std::int32_t>::max())
            slot_ = find(message);
        if (message.offset >= slot_->end) return;
        MessageBlock& block = *slot_->block;
        block.next_offset = message.offset + 1;
        if (message.payload == nullptr) {
            ++block.tombstones;
            return;
        }
        slot_->bytes->append(static_cast<const char*>(message.payload), message.len);
        block.messages.push_back({nullptr, static_cast<std::uint32_t>(message.len),
                                  static_cast<std::int32_t>(message.offset - block.first_offset)});
        block.ordinals.push_back(block.messages.back().ordinal);
        if (detailed_) take_details(message, &block);
        bytes_ += message.len;
        ++count_;
    }

    [[nodiscard]] std::size_t bytes() const { return bytes_; }
    [[nodiscard]] std::size_t count() const { return count_; }

    void finish(std::vector<std::shared_ptr<MessageBlock>>* blocks) {
        for (Slot& slot : slots_) {
            MessageBlock& block = *slot.block;
            if (block.next_offset == block.first_offset && block.messages.empty()) continue;
            block.value_bytes = static_cast<std::int64_t>(slot.bytes->size());
            block.count = static_cast<std::int64_t>(block.messages.size());
            slot.bytes->resize(slot.bytes->size() + kReadable, '\0');
            const char* at = slot.bytes->data();
            for (Message& message : block.messages) {
                message.data = at;
                at += message.size;
            }
            block.bytes = std::move(slot.bytes);
            blocks->push_back(std::move(slot.block));
        }
    }

private:
    struct Slot {
        rd_kafka_topic_s* rkt = nullptr;
        std::int32_t partition = -1;
        std::int64_t end = std::numeric_limits<std::int64_t>::max();
        std::shared_ptr<MessageBlock> block;
        std::shared_ptr<Array<char>> bytes;
    };

    Slot* find(const rd_kafka_message_t& message) {
        for (Slot& slot : slots_)
            if (slot.rkt == message.rkt && slot.partition == message.partition &&
                message.offset - slot.block->first_offset <= std::numeric_limits<std::int32_t>::max())
                return &slot;
        Slot& slot = slots_.emplace_back();
        slot.rkt = message.rkt;
        slot.partition = message.partition;
        slot.block = std::make_shared<MessageBlock>();
        slot.block->topic = library_.topic_name(message.rkt);
        slot.block->partition = message.partition;
        slot.block->first_offset = slot.block->next_offset = message.offset;
        slot.block->header_names = details_.headers;
        slot.block->headers.resize(details_.headers.size());
        slot.bytes = pool_.take();
        slot.bytes->reserve(kFirstCapacity);
        for (const KafkaPartition& each : ends_)
            if (each.partition == message.partition && each.topic == slot.block->topic) slot.end = each.end;
        return &slot;
    }

    void take_details(const rd_kafka_message_t& message, MessageBlock* block) const {
        if (details_.timestamps) {
            int kind = 0;
            const std::int64_t time_ms = library_.message_timestamp(&message, &kind);
            block->timestamps_ms.push_back(kind == 0 ? -1 : time_ms);
            block->newest_ms = std::max(block->newest_ms, kind == 0 ? -1 : time_ms);
        }
        if (details_.keys) block->keys.push_back(text(message.key, message.key_len, block));
        if (details_.headers.empty()) return;
        rd_kafka_headers_s* headers = nullptr;
        const bool any = library_.message_headers(&message, &headers) == 0;
        for (std::size_t i = 0; i < details_.headers.size(); ++i) {
            const void* value = nullptr;
            std::size_t size = 0;
            if (any) (void)library_.header_get_last(headers, details_.headers[i].c_str(), &value, &size);
            block->headers[i].push_back(text(value, size, block));
        }
    }

    static MessageBlock::Text text(const void* bytes, std::size_t size, MessageBlock* block) {
        if (bytes == nullptr) return {0, MessageBlock::kNone};
        const MessageBlock::Text added{block->details.size(), static_cast<std::uint32_t>(size)};
        block->details.append(static_cast<const char*>(bytes), size);
        return added;
    }

    const KafkaLibrary& library_;
    const KafkaDetails& details_;
    const std::vector<KafkaPartition>& ends_;
    BlockPool& pool_;
    const bool detailed_ = details_.timestamps || details_.keys || !details_.headers.empty();
    std::deque<Slot> slots_;  // in order of their first message
    Slot nothing_{nullptr, -1, 0, std::make_shared<MessageBlock>(), nullptr};
    Slot* slot_ = &nothing_;
    std::size_t bytes_ = 0;
    std::size_t count_ = 0;
};

// What goes on by itself: librdkafka reconnects, and a member that was put out of the group joins again.
bool heals(int error) {
    switch (error) {
        case kUnknownTopicOrPart:
        case kUnknownTopic:
        case kUnknownPartition:
        case kTopicAuthorization:
        case kGroupAuthorization:
        case kAuthentication:
        case kSaslAuthentication:
        case kAutoOffsetReset:
        case kFatal:
        case kFenced:
            return false;
        default:
            return true;
    }
}

}  // namespace

Status KafkaConsumer::poll(int timeout_ms, const PollLimits& limits, PollResult* out) {
    if (!rebalances_.empty()) return {};
    BlockReader reader(*library_, details_, ends_, *pool_);
    rd_kafka_message_t* messages[kBatch];
    Status status;
    std::size_t want = 1;  // to wait for the first one, and no longer
    for (;;) {
        const ssize_t got = library_->consume_batch_queue(queue_, timeout_ms, messages, want);
        if (got < 0) {
            status = failed("kafka: reading", library_->last_error());
            break;
        }
        for (ssize_t i = 0; i < got; ++i) {
            rd_kafka_message_t* message = messages[i];
            if (message->err == 0) {
                reader.take(*message);
            } else if (message->err == kPartitionEof) {
                out->ends.push_back(
                    {library_->topic_name(message->rkt), message->partition, message->offset, "", -1});
            } else if (heals(message->err)) {
                log_.add(4, library_->message_errstr(message));
            } else if (status.ok()) {
                const std::string place = message->rkt == nullptr
                                              ? "kafka"
                                              : std::string(library_->topic_name(message->rkt)) + "[" +
                                                    std::to_string(message->partition) + "]";
                status = failed(place, message->err, library_->message_errstr(message));
            }
            library_->message_destroy(message);
        }
        if (got == 0 || !status.ok() || !rebalances_.empty()) break;
        if (reader.bytes() >= limits.bytes || reader.count() >= limits.messages) break;
        want = std::min(kBatch, limits.messages - reader.count());
        timeout_ms = 0;
    }
    OMNI_RETURN_NOT_OK(status);
    reader.finish(&out->blocks);
    return {};
}

}  // namespace omnistream
