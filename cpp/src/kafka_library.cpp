// Finds librdkafka's functions, and turns its errors and settings into ours.
#include <dlfcn.h>

#include <algorithm>
#include <cstring>

#include "rdkafka_abi.hpp"

namespace omnistream {
namespace {

// Cooperative rebalancing and transactions are complete since 1.6; 2.0 mended batches across rebalances.
constexpr int kOldestVersion = 0x02000000;

std::shared_ptr<const KafkaLibrary>& the_library() {
    static std::shared_ptr<const KafkaLibrary> library;
    return library;
}

}  // namespace

Status load_kafka_library(const std::string& path, std::shared_ptr<const KafkaLibrary>* out) {
    static std::mutex mutex;
    const std::lock_guard lock(mutex);
    if (const auto& known = the_library(); known != nullptr) {
        if (known->path != path)
            return {Code::source,
                    "librdkafka is loaded from " + known->path + " already; a process uses one"};
        *out = known;
        return {};
    }
    void* handle = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
    if (handle == nullptr) {
        const char* why = dlerror();
        return {Code::source, "librdkafka cannot be loaded: " + std::string(why == nullptr ? path : why) +
                                  "; install confluent-kafka, or name the library in OMNISTREAM_LIBRDKAFKA"};
    }
    auto library = std::make_shared<KafkaLibrary>();
    library->path = path;
    const auto find = [&](std::string name) {
        if (name.back() == '_') name.pop_back();
        return dlsym(handle, ("rd_kafka_" + name).c_str());
    };
    std::string missing;
#define OMNI_FIND(result, name, arguments)                             \
    if (void* symbol = find(#name); symbol != nullptr)                 \
        library->name = reinterpret_cast<result(*) arguments>(symbol); \
    else if (missing.empty())                                          \
        missing = "rd_kafka_" #name;
    OMNI_RDKAFKA_FUNCTIONS(OMNI_FIND)
#undef OMNI_FIND
    if (!missing.empty() || library->version() < kOldestVersion) {
        const std::string found = library->version_str == nullptr
                                      ? "is no librdkafka"
                                      : std::string("is ") + library->version_str();
        return {Code::source, path + ": " + found + (missing.empty() ? "" : ", without " + missing) +
                                  "; use librdkafka 2.0 or later, such as confluent-kafka ships"};
    }
    the_library() = library;
    *out = library;
    return {};
}

std::string kafka_library_version(const KafkaLibrary& library) {
    return library.version_str();
}

void KafkaLog::add(int level, std::string line) {
    const std::lock_guard lock(mutex_);
    if (lines_.size() < kMost) {
        lines_.emplace_back(level, std::move(line));
    } else {
        ++dropped_;
    }
}

std::vector<std::pair<int, std::string>> KafkaLog::take() {
    const std::lock_guard lock(mutex_);
    std::vector<std::pair<int, std::string>> lines = std::move(lines_);
    lines_.clear();
    if (dropped_ != 0) lines.emplace_back(4, std::to_string(dropped_) + " more lines were dropped");
    dropped_ = 0;
    return lines;
}

void KafkaLog::note_error(int code, std::string reason) {
    const std::lock_guard lock(mutex_);
    // "All brokers are down" comes after the error that says why.
    if (code == rdkafka::kAllBrokersDown && error_.first != 0) return;
    error_ = {code, std::move(reason)};
}

std::pair<int, std::string> KafkaLog::last_error() const {
    const std::lock_guard lock(mutex_);
    return error_;
}

namespace rdkafka {

const KafkaLibrary* loaded() {
    return the_library().get();
}

std::string describe(const KafkaLibrary& library, int error) {
    return std::string(library.err2str(error)) + " (" + library.err2name(error) + ")";
}

std::string advice(int error) {
    switch (error) {
        case kTransport:
        case kResolve:
        case kAllBrokersDown:
        case kTimedOut:
            return "check that the brokers of bootstrap.servers can be reached from here, and "
                   "security.protocol";
        case kAuthentication:
        case kSaslAuthentication:
            return "check the sasl.* settings";
        case kSsl:
            return "check the ssl.* settings";
        case kTopicAuthorization:
            return "allow this user to read or write the topic";
        case kGroupAuthorization:
            return "allow this user to use the consumer group";
        case kUnknownTopicOrPart:
        case kUnknownTopic:
        case kUnknownPartition:
            return "create the topic, or mend its name";
        case kMessageTooLarge:
            return "raise message.max.bytes of the client and max.message.bytes of the topic";
        case kAutoOffsetReset:
            return "messages were deleted before they were read: raise the topic's retention, and start "
                   "again "
                   "without the stored offsets and the checkpoint, which knows what is lost";
        case kMaxPollExceeded:
            return "raise max.poll.interval.ms above the time that a checkpoint takes";
        case kFenced:
        case kProducerFenced:
        case kInvalidProducerEpoch:  // Kafka says the same of both
            return "another process uses the same member name: stop it, or give each its own source.member; "
                   "or the "
                   "transaction took longer than transaction.timeout.ms: shorten checkpoint.interval";
        case kTransactionTimeout:
            return "shorten checkpoint.interval, or raise transaction.max.timeout.ms of the broker";
        default:
            return "";
    }
}

std::string explain(const KafkaLibrary& library, const std::string& what, int error,
                    const std::string& detail) {
    const std::string help = advice(error);
    std::string text = what + ": ";
    text += detail.empty() ? describe(library, error) : detail + " (" + library.err2name(error) + ")";
    if (!help.empty()) text += "; " + help;
    return text;
}

int metadata_of(const KafkaLibrary& library, rd_kafka_s* client, rd_kafka_topic_s* topic, int timeout_ms,
                const KafkaLog& log, const rd_kafka_metadata_t** out) {
    constexpr int kStepMs = 3'000;
    int error = kTimedOut;
    for (; timeout_ms > 0 && (error == kTimedOut || error == kTransport); timeout_ms -= kStepMs) {
        error = library.metadata(client, topic == nullptr, topic, out, std::min(timeout_ms, kStepMs));
        const int cause = log.last_error().first;
        if (error != 0 && (cause == kAuthentication || cause == kSsl)) break;
    }
    return error;
}

void take_log_line(int level, const char* facility, const char* text, KafkaLog* log) {
    std::string line = text;
    // "[thrd:127.0.0.1:9092/bootstrap]: 127.0.0.1:9092/bootstrap: Connect to ..."
    if (const std::size_t behind = line.find("]: ");
        line.starts_with("[thrd:") && behind != std::string::npos)
        line.erase(0, behind + 3);
    if (std::strcmp(facility, "FAIL") == 0) {
        const bool sasl = line.find("SASL") != std::string::npos, ssl = line.find("SSL") != std::string::npos;
        log->note_error(sasl ? kAuthentication : ssl ? kSsl : kTransport, line);
    }
    log->add(level, std::string(facility) + ": " + line);
}

Status configure(const KafkaLibrary& library, const KafkaSettings& settings, const KafkaSettings& defaults,
                 Code code, rd_kafka_conf_s** out) {
    rd_kafka_conf_s* conf = library.conf_new();
    char why[512] = "";
    for (const auto& [key, value] : settings) {
        if (library.conf_set(conf, key.c_str(), value.c_str(), why, sizeof why) == kConfOk) continue;
        library.conf_destroy(conf);
        return {code, "kafka setting " + key + ": " + why + "; librdkafka's CONFIGURATION.md lists them all"};
    }
    for (const auto& [name, value] : defaults) {
        const std::string& key = name;  // a binding cannot be captured by all compilers
        const bool given = std::any_of(settings.begin(), settings.end(),
                                       [&](const auto& each) { return each.first == key; });
        if (given) continue;
        const int result = library.conf_set(conf, key.c_str(), value.c_str(), why, sizeof why);
        if (result == kConfOk || result == kConfUnknown) continue;
        library.conf_destroy(conf);
        return {code, "kafka setting " + key + ": " + why};
    }
    *out = conf;
    return {};
}

List to_list(const KafkaLibrary& library, rd_kafka_s* client, const std::vector<KafkaPartition>& partitions) {
    List list(library.topic_partition_list_new(static_cast<int>(partitions.size())), ListDeleter{&library});
    for (const KafkaPartition& each : partitions) {
        rd_kafka_topic_partition_t* added =
            library.topic_partition_list_add(list.get(), each.topic.c_str(), each.partition);
        added->offset = each.offset;
        if (each.metadata.empty()) continue;
        // Freed with the list. librdkafka copies as much as the size says, and sends it up to its NUL.
        added->metadata = library.mem_malloc(client, each.metadata.size() + 1);
        std::memcpy(added->metadata, each.metadata.c_str(), each.metadata.size() + 1);
        added->metadata_size = each.metadata.size() + 1;
    }
    return list;
}

std::vector<KafkaPartition> from_list(const rd_kafka_topic_partition_list_t* list) {
    std::vector<KafkaPartition> partitions;
    for (int i = 0; i < list->cnt; ++i) {
        const rd_kafka_topic_partition_t& each = list->elems[i];
        KafkaPartition& added = partitions.emplace_back();
        added.topic = each.topic;
        added.partition = each.partition;
        added.offset = each.offset;
        if (each.metadata != nullptr)
            added.metadata.assign(static_cast<const char*>(each.metadata), each.metadata_size);
        added.metadata.erase(added.metadata.find_last_not_of('\0') + 1);
    }
    return partitions;
}

}  // namespace rdkafka
}  // namespace omnistream
