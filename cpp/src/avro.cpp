// Avro messages: the frame, the programs by schema id, the walk over a batch.
#include "omnistream/avro.hpp"

#include <algorithm>
#include <mutex>
#include <unordered_map>

#include "avro_program.hpp"
#include "avro_reader.hpp"
#include "decode_lanes.hpp"
#include "decode_plan.hpp"

namespace omnistream {

class AvroDecoder::Impl {
public:
    Impl(Schema schema, const std::vector<std::shared_ptr<Dictionary>>& dictionaries, bool framed)
        : plan_(std::move(schema)), lanes_(plan_, dictionaries), reader_(plan_, lanes_), framed_(framed) {}

    [[nodiscard]] std::vector<std::uint32_t> unknown_ids(const Origin& origin) const {
        std::vector<std::uint32_t> unknown;
        if (!framed_) return unknown;
        std::uint32_t last = 0;
        bool any = false;
        for (const Message& message : origin.messages) {
            if (message.size < kFrameBytes || message.data[0] != kMagic) continue;
            const std::uint32_t id = id_of(message.data);
            if (any && id == last) continue;
            any = true;
            last = id;
            if (!programs_.contains(id) && std::find(unknown.begin(), unknown.end(), id) == unknown.end())
                unknown.push_back(id);
        }
        return unknown;
    }

    Status learn(std::uint32_t id, AvroSchema writer) {
        auto program = std::make_unique<AvroProgram>();
        Status status = AvroProgram::compile(plan_, std::move(writer), program.get());
        if (status.ok()) programs_[id] = std::move(program);
        return status;
    }
    void refuse(std::uint32_t id) { programs_[id] = nullptr; }

    Status decode(Origin* origin, Decoded* out) {
        out->batch = std::make_shared<Batch>();
        lanes_.begin();
        std::size_t lines_before = 0;
        for (std::size_t i = 0; i < origin->messages.size(); ++i) {
            Reject reject;
            if (read(origin->messages[i], &reject)) {
                lanes_.message_number.push_back(static_cast<std::int32_t>(i));
                out->counts.empty += lanes_.rows[plan_.lines()] == lines_before;
                lines_before = lanes_.rows[plan_.lines()];
                out->counts.unknown_fields += reader_.unknown_fields();
            } else {
                reject.message = static_cast<std::int32_t>(i);
                out->rejects.push_back(std::move(reject));
            }
            if ((i + 1) % kEncodeEvery == 0) encode();
        }
        encode();
        out->counts.messages = static_cast<std::int64_t>(origin->messages.size());
        const bool fits = lanes_.finish(out->batch.get());
        out->counts.decoded = static_cast<std::int64_t>(lanes_.message_number.size());
        out->counts.rejected = static_cast<std::int64_t>(out->rejects.size());
        out->counts.rows = out->batch->rows;
        if (fits) return {};
        return {Code::decode,
                "the message values repeated for each line exceed 2 GiB in one batch; push fewer messages at "
                "once"};
    }

    std::mutex busy_;  // one thread at a time

private:
    static constexpr char kMagic = 0;
    static constexpr std::uint32_t kFrameBytes = 5;
    static constexpr std::size_t kEncodeEvery = 1'024;  // messages, while their bytes are still in the cache

    static std::uint32_t id_of(const char* frame) {
        std::uint32_t id = 0;
        for (int i = 1; i < 5; ++i) id = id << 8 | static_cast<unsigned char>(frame[i]);
        return id;
    }

    bool read(const Message& message, Reject* reject) {
        const auto refused = [&](DecodeReason reason, std::int32_t byte_offset) {
            reject->reason = static_cast<std::int32_t>(reason);
            reject->byte_offset = byte_offset;
            return false;
        };
        if (message.size > plan_.schema.max_message_bytes)
            return refused(DecodeReason::message_too_large, -1);
        std::uint32_t id = 0;
        const char* body = message.data;
        if (framed_) {
            if (message.size != 0 && *body != kMagic) return refused(DecodeReason::invalid_avro, 0);
            if (message.size < kFrameBytes)
                return refused(DecodeReason::truncated_avro, static_cast<std::int32_t>(message.size));
            id = id_of(body);
            body += kFrameBytes;
        }
        // Producers change their schema now and then, not from message to message.
        if (program_ == nullptr || id != program_id_) {
            const auto found = programs_.find(id);
            if (found == programs_.end() || found->second == nullptr)
                return refused(DecodeReason::unknown_schema, framed_ ? 1 : 0);
            program_ = found->second.get();
            program_id_ = id;
        }
        return reader_.read(*program_, message.data, body, message.data + message.size, reject);
    }

    void encode() {
        lanes_.encode();
        reader_.forget_texts();
    }

    const DecodePlan plan_;
    Lanes lanes_;
    AvroReader reader_;
    const bool framed_;
    std::unordered_map<std::uint32_t, std::unique_ptr<const AvroProgram>> programs_;  // nullptr: refused
    const AvroProgram* program_ = nullptr;                                            // of the last message
    std::uint32_t program_id_ = 0;
};

AvroDecoder::AvroDecoder(Schema schema, std::vector<std::shared_ptr<Dictionary>> dictionaries, bool framed)
    : impl_(std::make_unique<Impl>(std::move(schema), dictionaries, framed)) {}
AvroDecoder::~AvroDecoder() = default;

std::vector<std::uint32_t> AvroDecoder::unknown_ids(const Origin& origin) const {
    const std::lock_guard lock(impl_->busy_);
    return impl_->unknown_ids(origin);
}

Status AvroDecoder::learn(std::uint32_t id, AvroSchema writer) {
    const std::lock_guard lock(impl_->busy_);
    return impl_->learn(id, std::move(writer));
}

void AvroDecoder::refuse(std::uint32_t id) {
    const std::lock_guard lock(impl_->busy_);
    impl_->refuse(id);
}

Status AvroDecoder::decode_messages(std::shared_ptr<Origin> origin, Decoded* out) {
    constexpr std::size_t kLargestBlock = std::size_t{1} << 30;  // columns of a batch have 32-bit offsets
    std::size_t size = 0;
    for (const Message& message : origin->messages) size += message.size;
    if (size > kLargestBlock) return {Code::decode, "more than 1 GiB of messages at once; push fewer"};
    const std::lock_guard lock(impl_->busy_);
    const Status status = impl_->decode(origin.get(), out);
    out->batch->origin = std::move(origin);
    return status;
}

}  // namespace omnistream
