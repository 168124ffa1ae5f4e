// Messages out: rows that are rendered already, with keys and headers, in transactions where asked for.
#include <algorithm>
#include <cstring>

#include "rdkafka_abi.hpp"

namespace omnistream {

using namespace rdkafka;

namespace {

// What another try may mend.
bool heals(int error) {
    return error != kMessageTooLarge && error != kTopicAuthorization && error != kUnknownTopicOrPart;
}

// How long produce() waits at a time while the queue is full; it goes on until there is room, as undelivered
// messages leave the queue after message.timeout.ms at the latest.
constexpr int kRoomWaitMs = 100;
constexpr int kTriesToCreate = 10;
constexpr int kCreateWaitMs = 200;

}  // namespace

struct KafkaProducer::Callbacks {
    static void error(rd_kafka_s*, int error, const char* reason, void* opaque) {
        auto* self = static_cast<KafkaProducer*>(opaque);
        self->log_.note_error(error, reason);
        self->log_.add(error == kFatal ? 3 : 4, std::string(reason));
    }
    static void log(const rd_kafka_s* client, int level, const char* facility, const char* text) {
        auto* self = static_cast<KafkaProducer*>(loaded()->opaque(client));
        if (self != nullptr) take_log_line(level, facility, text, &self->log_);
    }
    static void delivery(rd_kafka_s*, const rd_kafka_message_t* message, void* opaque) {
        auto* self = static_cast<KafkaProducer*>(opaque);
        // Those were taken back on purpose, by an abort.
        if (message->err == 0 || message->err == kPurgeQueue || message->err == kPurgeInflight) return;
        const std::lock_guard lock(self->mutex_);
        if (self->undelivered_error_ != 0) return;
        self->undelivered_error_ = message->err;
        self->undelivered_topic_ = self->library_->topic_name(message->rkt);
    }
};

Status KafkaProducer::open(std::shared_ptr<const KafkaLibrary> library, const KafkaSettings& settings,
                           const KafkaSettings& defaults, std::unique_ptr<KafkaProducer>* out) {
    std::unique_ptr<KafkaProducer> producer(new KafkaProducer);
    producer->library_ = library;
    rd_kafka_conf_s* conf = nullptr;
    OMNI_RETURN_NOT_OK(configure(*library, settings, defaults, Code::sink, &conf));
    library->conf_set_opaque(conf, producer.get());
    library->conf_set_error_cb(conf, &Callbacks::error);
    library->conf_set_log_cb(conf, &Callbacks::log);
    library->conf_set_dr_msg_cb(conf, &Callbacks::delivery);
    char why[512] = "";
    producer->client_ = library->new_(kProducer, conf, why, sizeof why);
    if (producer->client_ == nullptr) {
        library->conf_destroy(conf);
        return {Code::sink, std::string("kafka producer: ") + why + "; mend the sink's config"};
    }
    *out = std::move(producer);
    return {};
}

KafkaProducer::~KafkaProducer() {
    if (client_ == nullptr) return;
    // Whoever wants them delivered has called flush().
    library_->purge(client_, 3);
    library_->destroy(client_);
}

Status KafkaProducer::failed(const std::string& what, int error, const std::string& detail) const {
    if (error == kTimedOut || error == kTransport || error == kAllBrokersDown) {
        if (const auto [code, reason] = log_.last_error(); code != 0)
            return {Code::sink, explain(*library_, what, code, reason)};
    }
    return {Code::sink, explain(*library_, what, error, detail)};
}

Status KafkaProducer::partitions(const std::string& topic, int timeout_ms, std::int32_t* count) {
    // Asked for by name, a topic is made by brokers that do so (auto.create.topics.enable), after a moment.
    rd_kafka_topic_s* asked = library_->topic_new(client_, topic.c_str(), nullptr);
    int error = kUnknownTopicOrPart;
    *count = 0;
    for (int i = 0; i < kTriesToCreate && error == kUnknownTopicOrPart; ++i) {
        if (i != 0) library_->poll(client_, kCreateWaitMs);
        const rd_kafka_metadata_t* metadata = nullptr;
        error = metadata_of(*library_, client_, asked, timeout_ms, log_, &metadata);
        if (error != 0) break;
        error = metadata->topic_cnt == 1 ? metadata->topics[0].err : kUnknownTopicOrPart;
        *count = error == 0 ? metadata->topics[0].partition_cnt : 0;
        if ((error == 0 && *count == 0) || error == kLeaderNotAvailable) error = kUnknownTopicOrPart;
        library_->metadata_destroy(metadata);
    }
    library_->topic_destroy(asked);
    return error == 0 || error == kUnknownTopicOrPart ? Status() : failed("kafka topic " + topic, error);
}

Status KafkaProducer::delivery(bool* must_abort) const {
    const std::lock_guard lock(mutex_);
    if (undelivered_error_ == 0) return {};
    // Outside of a transaction nothing can be taken back and sent again.
    if (must_abort != nullptr) *must_abort = transactional_ && heals(undelivered_error_);
    return failed("kafka topic " + undelivered_topic_ + ": a message was not delivered", undelivered_error_);
}

// ---- messages ----

namespace {

// Texts by row: the ones that are there, in order of their ordinals.
class Texts {
public:
    explicit Texts(const Origin* origin) : origin_(origin) {}
    // Rows must be asked for in order.
    std::string_view at(std::int32_t row) {
        if (origin_ == nullptr || next_ == origin_->messages.size()) return {};
        const Message& message = origin_->messages[next_];
        if (message.ordinal != row) return {};
        ++next_;
        // An empty text is one, too: librdkafka tells none by its null pointer.
        return {message.data == nullptr ? "" : message.data, message.size};
    }

private:
    const Origin* origin_;
    std::size_t next_ = 0;
};

rd_kafka_vu_t header_argument(const std::string& name, std::string_view value) {
    rd_kafka_vu_t argument{};
    argument.vtype = kVHeader;
    argument.u.header = {name.c_str(), value.data(), static_cast<ssize_t>(value.size())};
    return argument;
}

}  // namespace

Status KafkaProducer::produce(const std::string& topic, std::int32_t rows, const Origin* keys,
                              const Origin& values, const Headers& headers, const RowHeaders& row_headers,
                              bool* must_abort) {
    Texts key_of(keys), value_of(&values);
    std::vector<Texts> row_header_of;
    for (const auto& [name, texts] : row_headers) row_header_of.emplace_back(texts.get());

    std::vector<rd_kafka_vu_t> arguments(4);
    arguments[0].vtype = kVTopic;
    arguments[0].u.cstr = topic.c_str();
    arguments[1].vtype = kVMsgflags;
    arguments[1].u.i = kCopy;
    for (const auto& [name, value] : headers) arguments.push_back(header_argument(name, value));
    const std::size_t constant = arguments.size();

    for (std::int32_t row = 0; row < rows; ++row) {
        const std::string_view key = key_of.at(row), value = value_of.at(row);
        arguments[2].vtype = kVKey;
        arguments[2].u.mem = {const_cast<char*>(key.data()), key.size()};
        arguments[3].vtype = kVValue;
        arguments[3].u.mem = {const_cast<char*>(value.data()), value.size()};
        arguments.resize(constant);
        for (std::size_t i = 0; i < row_headers.size(); ++i) {
            const std::string_view text = row_header_of[i].at(row);
            if (text.data() != nullptr) arguments.push_back(header_argument(row_headers[i].first, text));
        }
        for (;;) {
            rd_kafka_error_s* error = library_->produceva(client_, arguments.data(), arguments.size());
            if (error == nullptr) break;
            const int code = library_->error_code(error);
            const std::string text = library_->error_string(error);
            library_->error_destroy(error);
            // A transaction takes no more after a message that was not delivered: that one is the cause.
            library_->poll(client_, kRoomWaitMs);
            OMNI_RETURN_NOT_OK(delivery(must_abort));
            if (code == kQueueFull) continue;
            *must_abort = code == kState;  // the transaction has failed meanwhile
            return failed("kafka topic " + topic, code, text);
        }
    }
    library_->poll(client_, 0);
    return delivery(must_abort);
}

Status KafkaProducer::flush(int timeout_ms) {
    const int error = library_->flush(client_, timeout_ms);
    OMNI_RETURN_NOT_OK(delivery());
    if (error == 0) return {};
    return failed("kafka: " + std::to_string(library_->outq_len(client_)) + " messages are not delivered yet",
                  error);
}

// ---- transactions ----

Status KafkaProducer::finish(const std::string& what, void* raw, bool* must_abort) {
    auto* error = static_cast<rd_kafka_error_s*>(raw);
    if (must_abort != nullptr) *must_abort = false;
    if (error == nullptr) return {};
    int code = library_->error_code(error);
    std::string text = library_->error_string(error);
    if (library_->error_is_fatal(error) != 0) {
        char why[512] = "";
        code = library_->fatal_error(client_, why, sizeof why);
        text = why;
    } else if (must_abort != nullptr) {
        // The report of the message that is the cause may not have been taken yet: the code is the same.
        *must_abort = library_->error_txn_requires_abort(error) != 0 && heals(code);
    }
    library_->error_destroy(error);
    return failed("kafka transaction: " + what, code, text);
}

// A message that was not delivered says more than the transaction that fails by it.
Status KafkaProducer::cause(Status failure, bool* must_abort) const {
    bool may_heal = false;
    Status lost = failure.ok() ? Status() : delivery(&may_heal);
    if (lost.ok()) return failure;
    *must_abort = *must_abort && may_heal;
    return lost;
}

Status KafkaProducer::init_transactions(int timeout_ms) {
    transactional_ = true;
    return finish("starting", library_->init_transactions(client_, timeout_ms), nullptr);
}

Status KafkaProducer::begin() {
    return finish("beginning", library_->begin_transaction(client_), nullptr);
}

Status KafkaProducer::send_offsets(const std::vector<KafkaPartition>& offsets, KafkaConsumer& group,
                                   int timeout_ms, bool* must_abort) {
    rd_kafka_consumer_group_metadata_s* member = library_->consumer_group_metadata(group.handle());
    if (member == nullptr) return {Code::sink, "kafka transaction: the consumer has no group"};
    rd_kafka_error_s* error = library_->send_offsets_to_transaction(
        client_, to_list(*library_, client_, offsets).get(), member, timeout_ms);
    library_->consumer_group_metadata_destroy(member);
    return cause(finish("sending the offsets", error, must_abort), must_abort);
}

Status KafkaProducer::commit(int timeout_ms, bool* must_abort) {
    rd_kafka_error_s* error = library_->commit_transaction(client_, timeout_ms);
    return cause(finish("committing", error, must_abort), must_abort);
}

Status KafkaProducer::abort(int timeout_ms) {
    const Status status = finish("aborting", library_->abort_transaction(client_, timeout_ms), nullptr);
    const std::lock_guard lock(mutex_);
    undelivered_error_ = 0;
    return status;
}

}  // namespace omnistream
