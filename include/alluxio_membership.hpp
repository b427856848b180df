/*
 * The C API as C++17: objects that free themselves, and errors as exceptions. Everything is inline, on top of
 * alluxio_membership.h, whose rules hold: threads, blocking, fork, signals.
 */
#ifndef ALLUXIO_MEMBERSHIP_HPP
#define ALLUXIO_MEMBERSHIP_HPP

#include "alluxio_membership.h"

#include <chrono>
#include <cstddef>
#include <functional>
#include <iterator>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

namespace alluxio::membership {

/** Why a call failed. */
class Error : public std::runtime_error {
public:
    explicit Error(const axm_error_t *error)
        : std::runtime_error(axm_error_message(error)),
          code_(axm_error_code(error)),
          retryable_(axm_error_is_retryable(error))
    {
    }

    /** One of the AXM_ERROR_* values. */
    int32_t code() const noexcept { return code_; }
    /** Whether the same call may succeed later without anybody correcting anything. */
    bool is_retryable() const noexcept { return retryable_; }

private:
    int32_t code_;
    bool retryable_;
};

/** Throws what a function of the C API returned, if it is an error. */
inline void check(axm_error_t *error)
{
    if (error != nullptr) {
        const std::unique_ptr<axm_error_t, decltype(&axm_error_free)> owned(error, axm_error_free);
        throw Error(error);
    }
}

/** A text for the C API, which takes what follows a NUL for something else. */
inline const char *c_text(const std::string &text)
{
    if (text.find('\0') != std::string::npos) {
        throw std::invalid_argument("a text for alluxio-membership contains NUL");
    }
    return text.c_str();
}

/** Properties on their way to a membership. */
class Config {
public:
    Config() : config_(axm_config_new(), axm_config_free) {}

    /** Sets one property. */
    Config &set(const std::string &key, const std::string &value)
    {
        check(axm_config_set(config_.get(), c_text(key), c_text(value)));
        return *this;
    }

    /** Sets all properties of a file in the format of alluxio-site.properties. */
    Config &load_file(const std::string &path)
    {
        check(axm_config_load_file(config_.get(), c_text(path)));
        return *this;
    }

    const axm_config_t *get() const noexcept { return config_.get(); }

private:
    std::unique_ptr<axm_config_t, decltype(&axm_config_free)> config_;
};

/** A worker in a listing. Must not outlive the snapshot it is from. */
class Member {
public:
    explicit Member(const axm_member_t *member) : member_(member) {}

    std::string identity() const { return axm_member_identity(member_); }
    std::string host() const { return axm_member_host(member_); }
    std::string container_host() const { return axm_member_container_host(member_); }
    std::string domain_socket_path() const { return axm_member_domain_socket_path(member_); }
    int32_t rpc_port() const noexcept { return axm_member_rpc_port(member_); }
    int32_t data_port() const noexcept { return axm_member_data_port(member_); }
    int32_t secure_rpc_port() const noexcept { return axm_member_secure_rpc_port(member_); }
    int32_t netty_data_port() const noexcept { return axm_member_netty_data_port(member_); }
    int32_t web_port() const noexcept { return axm_member_web_port(member_); }
    int32_t http_server_port() const noexcept { return axm_member_http_server_port(member_); }
    bool is_live() const noexcept { return axm_member_state(member_) == AXM_STATE_LIVE; }

private:
    const axm_member_t *member_;
};

/** A key that belongs to the cluster but is not listed. */
struct SkippedRecord {
    std::string key;
    /** Why its record cannot be understood. */
    std::string reason;
};

/** Workers at one moment. Copies share it. */
class Snapshot {
public:
    class Iterator {
    public:
        using iterator_category = std::input_iterator_tag;
        using value_type = Member;
        using difference_type = std::ptrdiff_t;
        using pointer = void;
        using reference = Member;

        Iterator(const axm_snapshot_t *snapshot, std::size_t index) : snapshot_(snapshot), index_(index) {}
        Member operator*() const { return Member(axm_snapshot_member(snapshot_, index_)); }
        Iterator &operator++()
        {
            ++index_;
            return *this;
        }
        Iterator operator++(int)
        {
            Iterator before = *this;
            ++index_;
            return before;
        }
        bool operator==(const Iterator &other) const { return index_ == other.index_; }
        bool operator!=(const Iterator &other) const { return index_ != other.index_; }

    private:
        const axm_snapshot_t *snapshot_;
        std::size_t index_;
    };

    /** Takes over one hold on the snapshot. */
    explicit Snapshot(axm_snapshot_t *snapshot) : snapshot_(snapshot, axm_snapshot_free) {}

    std::size_t size() const noexcept { return axm_snapshot_count(snapshot_.get()); }
    Iterator begin() const { return Iterator(snapshot_.get(), 0); }
    Iterator end() const { return Iterator(snapshot_.get(), size()); }
    uint64_t version() const noexcept { return axm_snapshot_version(snapshot_.get()); }
    int64_t revision() const noexcept { return axm_snapshot_revision(snapshot_.get()); }
    /** How long ago etcd was last known to have exactly these workers. */
    std::chrono::milliseconds age() const noexcept
    {
        return std::chrono::milliseconds(axm_snapshot_age_ms(snapshot_.get()));
    }

    /** The records that are not listed, whichever workers are. */
    std::vector<SkippedRecord> skipped() const
    {
        std::vector<SkippedRecord> records;
        const std::size_t count = axm_snapshot_skipped_count(snapshot_.get());
        for (std::size_t i = 0; i < count; ++i) {
            records.push_back({axm_snapshot_skipped_key(snapshot_.get(), i),
                               axm_snapshot_skipped_reason(snapshot_.get(), i)});
        }
        return records;
    }

    /** The worker of an identity, if it is there. Not of a temporary, which would take the worker along. */
    std::optional<Member> find(const std::string &identity) const && = delete;
    std::optional<Member> find(const std::string &identity) const &
    {
        const axm_member_t *member = nullptr;
        check(axm_snapshot_find(snapshot_.get(), c_text(identity), &member));
        return member == nullptr ? std::nullopt : std::optional<Member>(Member(member));
    }

    const axm_snapshot_t *get() const noexcept { return snapshot_.get(); }

private:
    std::shared_ptr<axm_snapshot_t> snapshot_;
};

/**
 * Ends when it is destroyed, or another one is assigned to it. That waits for a running call, unless it is done by the
 * callback itself: the running call is then the last one, and what the callback holds lives until it returns.
 */
class Subscription {
public:
    /** What happened (an AXM_EVENT_* value), to which worker, and the registered workers after it. */
    using Callback = std::function<void(int32_t, const Member &, const Snapshot &)>;

    /** An exception that the callback throws ends the program. */
    Subscription(const axm_membership_t *membership, Callback callback)
        : subscriber_(std::make_shared<Subscriber>(std::move(callback))), subscription_(nullptr, axm_subscription_free)
    {
        if (!subscriber_->callback) {
            throw std::invalid_argument("the callback of a subscription is empty");
        }
        axm_subscription_t *subscription = nullptr;
        check(axm_membership_subscribe(membership, &Subscription::call, subscriber_.get(), &subscription));
        subscription_.reset(subscription);
    }

    Subscription(Subscription &&) noexcept = default;
    Subscription &operator=(Subscription &&other) noexcept
    {
        if (this != &other) {
            /* The end of the old subscription first: until then, its callback may be called. */
            subscription_.reset();
            subscriber_ = std::move(other.subscriber_);
            subscription_ = std::move(other.subscription_);
        }
        return *this;
    }

private:
    struct Subscriber : std::enable_shared_from_this<Subscriber> {
        explicit Subscriber(Callback function) : callback(std::move(function)) {}
        Callback callback;
    };

    static void call(void *user_data, int32_t event, const axm_member_t *member,
                     const axm_snapshot_t *snapshot) noexcept
    {
        /* The callback may end its own subscription, which must not take the callback away from under it. */
        const std::shared_ptr<Subscriber> subscriber = static_cast<Subscriber *>(user_data)->shared_from_this();
        subscriber->callback(event, Member(member), Snapshot(axm_snapshot_retain(snapshot)));
    }

    /* Freed after the subscription, which is declared below it. */
    std::shared_ptr<Subscriber> subscriber_;
    std::unique_ptr<axm_subscription_t, decltype(&axm_subscription_free)> subscription_;
};

/** Access to one cluster. Closed when it is destroyed. */
class Membership {
public:
    explicit Membership(const Config &config) : membership_(nullptr, axm_membership_free)
    {
        axm_membership_t *membership = nullptr;
        check(axm_membership_open(config.get(), &membership));
        membership_.reset(membership);
    }

    /** Registers a worker and keeps it registered. */
    void join(const axm_worker_t &worker) { check(axm_membership_join(membership_.get(), &worker)); }
    /** Ends the registration of one worker of this process. */
    void stop_heartbeat(const std::string &identity)
    {
        check(axm_membership_stop_heartbeat(membership_.get(), c_text(identity)));
    }
    /** Ends the registrations made here. */
    void leave() { check(axm_membership_leave(membership_.get())); }
    /** Leaves and closes; says whether that failed, which the destructor cannot. */
    void close() { check(axm_membership_close(membership_.get())); }
    /** Removes a lost worker from the cluster. */
    void remove(const std::string &identity) { check(axm_membership_remove(membership_.get(), c_text(identity))); }

    /** Lists the workers that an AXM_FILTER_* value names. */
    Snapshot list(axm_filter_t filter = AXM_FILTER_ALL) const
    {
        axm_snapshot_t *snapshot = nullptr;
        check(axm_membership_list(membership_.get(), filter, &snapshot));
        return Snapshot(snapshot);
    }

    /** The version that a listing would have now; 0 if it would block or fail. */
    uint64_t version() const noexcept { return axm_membership_version(membership_.get()); }

    /** Waits for a greater version than this, of any age; nothing when the time is over first. */
    std::optional<Snapshot> wait_for_change(uint64_t version, std::chrono::milliseconds timeout) const
    {
        axm_snapshot_t *snapshot = nullptr;
        check(axm_membership_wait_for_change(membership_.get(), AXM_FILTER_ALL, version, timeout.count(), &snapshot));
        return snapshot == nullptr ? std::nullopt : std::optional<Snapshot>(Snapshot(snapshot));
    }

    /** The table of all workers that "alluxio info nodes" prints. */
    std::string show() const
    {
        char *table = nullptr;
        check(axm_membership_show(membership_.get(), &table));
        const std::unique_ptr<char, decltype(&axm_string_free)> owned(table, axm_string_free);
        return owned.get();
    }

    /** Tells a callback of each worker that is there, then of each change. */
    [[nodiscard]] Subscription subscribe(Subscription::Callback callback) const
    {
        return Subscription(membership_.get(), std::move(callback));
    }

    axm_membership_t *get() const noexcept { return membership_.get(); }

private:
    std::unique_ptr<axm_membership_t, decltype(&axm_membership_free)> membership_;
};

} // namespace alluxio::membership

#endif
