#include "omnistream/decode_stream.hpp"

#include <algorithm>
#include <cerrno>
#include <new>
#include <utility>

#include "omnistream/rejects.hpp"

namespace omnistream {

DecodeStream::DecodeStream(std::shared_ptr<Decoder> decoder, std::string_view lines, std::size_t block_bytes,
                           const Origin& origin)
    : decoder_(std::move(decoder)),
      lines_(lines),
      block_bytes_(std::max<std::size_t>(block_bytes, 1)),
      source_(origin.source),
      partition_(origin.partition),
      owner_(origin.owner),
      position_(origin.first_position) {
    Decoded none;
    if (decoder_->decode_lines({}, this->origin(), &none).ok()) columns_ = std::move(none.batch->columns);
}

Status DecodeStream::next(std::shared_ptr<Batch>* batch) {
    batch->reset();
    if (lines_.empty()) return {};
    std::size_t size = lines_.size();
    if (block_bytes_ < size) {
        const std::size_t feed = lines_.find('\n', block_bytes_ - 1);
        if (feed != std::string_view::npos) size = feed + 1;
    }
    const std::shared_ptr<Origin> from = origin();
    Decoded decoded;
    OMNI_RETURN_NOT_OK(decoder_->decode_lines(lines_.substr(0, size), from, &decoded));
    lines_.remove_prefix(size);
    position_ += from->positions;
    std::shared_ptr<Batch> rejects;
    if (!decoded.rejects.empty())
        rejects = reject_table(*decoded.batch, decoded.rejects, "decode", decode_reasons());
    const std::lock_guard lock(told_);
    counts_ += decoded.counts;
    if (rejects != nullptr) rejects_.push_back(std::move(rejects));
    *batch = std::move(decoded.batch);
    return {};
}

DecodeCounts DecodeStream::counts() const {
    const std::lock_guard lock(told_);
    return counts_;
}

std::vector<std::shared_ptr<Batch>> DecodeStream::take_rejects() {
    const std::lock_guard lock(told_);
    return std::exchange(rejects_, {});
}

std::shared_ptr<Origin> DecodeStream::origin() const {
    auto origin = std::make_shared<Origin>();
    origin->source = source_;
    origin->partition = partition_;
    origin->first_position = position_;
    origin->owner = owner_;
    return origin;
}

namespace {

struct StreamHolder {
    std::shared_ptr<DecodeStream> batches;
    std::string error;
};

StreamHolder& holder_of(ArrowArrayStream* stream) {
    return *static_cast<StreamHolder*>(stream->private_data);
}

int get_schema(ArrowArrayStream* stream, ArrowSchema* out) {
    try {
        export_schema(holder_of(stream).batches->columns(), out);
    } catch (const std::bad_alloc&) {
        return ENOMEM;
    }
    return 0;
}

int get_next(ArrowArrayStream* stream, ArrowArray* out) {
    StreamHolder& holder = holder_of(stream);
    *out = ArrowArray{};  // without release(): the end
    try {
        std::shared_ptr<Batch> batch;
        const Status status = holder.batches->next(&batch);
        if (!status.ok()) {
            holder.error = status.message();
            return EINVAL;
        }
        if (batch != nullptr) export_batch(*batch, out);
    } catch (const std::bad_alloc&) {
        holder.error = "out of memory";
        return ENOMEM;
    }
    return 0;
}

const char* get_last_error(ArrowArrayStream* stream) {
    const std::string& error = holder_of(stream).error;
    return error.empty() ? nullptr : error.c_str();
}

void release_stream(ArrowArrayStream* stream) {
    delete &holder_of(stream);
    stream->release = nullptr;
}

}  // namespace

void export_stream(std::shared_ptr<DecodeStream> batches, ArrowArrayStream* stream) {
    *stream = {get_schema, get_next, get_last_error, release_stream,
               new StreamHolder{std::move(batches), {}}};
}

}  // namespace omnistream
