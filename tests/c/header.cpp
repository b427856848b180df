/* The C++ header on a STATIC cluster of two hosts, and on an etcd with records that cannot be understood.
 * Usage: header HOSTS_FILE ENDPOINT */
#include <alluxio_membership.hpp>

#include <algorithm>
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <future>
#include <thread>
#include <type_traits>

namespace am = alluxio::membership;

#define CHECK(condition) \
    do { \
        if (!(condition)) { \
            std::fprintf(stderr, "%s:%d: not true: %s\n", __FILE__, __LINE__, #condition); \
            std::abort(); \
        } \
    } while (0)

/* Whether a worker can be found in a temporary snapshot, and then be used after its end. */
template <typename Snapshot, typename = void> struct finds : std::false_type {};
template <typename Snapshot>
struct finds<Snapshot, std::void_t<decltype(std::declval<Snapshot>().find(std::string()))>> : std::true_type {};
static_assert(finds<const am::Snapshot &>::value && !finds<am::Snapshot>::value, "find");
static_assert(!std::is_copy_constructible<am::Membership>::value, "one owner");
static_assert(std::is_nothrow_move_constructible<am::Membership>::value, "which may change");
static_assert(std::is_nothrow_move_assignable<am::Subscription>::value, "and so may that of a subscription");

template <typename Call> static int32_t code_of(Call call)
{
    try {
        call();
    } catch (const am::Error &error) {
        CHECK(std::string(error.what()).size() > 0);
        return error.code();
    }
    return 0;
}

static am::Config config(const std::string &hosts_file)
{
    am::Config config;
    config.set("alluxio.worker.membership.manager.type", "STATIC")
        .set("alluxio.worker.static.membership.manager.config.file", hosts_file);
    return config;
}

static void errors(const std::string &hosts_file)
{
    CHECK(code_of([] { am::Config().load_file("/does/not/exist"); }) == AXM_ERROR_NOT_FOUND);
    CHECK(code_of([] { am::Membership membership((am::Config())); }) != 0);
    const am::Membership membership(config(hosts_file));
    CHECK(code_of([&] { membership.list().size(); }) == 0);
    CHECK(code_of([&] {
              const am::Snapshot all = membership.list();
              all.find("nobody");
          }) == AXM_ERROR_INVALID_ARGUMENT);
    bool refused = false;
    try {
        am::Config().set("key", std::string("a\0b", 3));
    } catch (const std::invalid_argument &) {
        refused = true;
    }
    CHECK(refused);
}

static void snapshots(const std::string &hosts_file)
{
    std::optional<am::Snapshot> kept;
    {
        am::Membership first(config(hosts_file));
        am::Membership membership(std::move(first));
        const am::Snapshot all = membership.list();
        CHECK(all.version() > 0 && all.revision() == 0 && all.age().count() == 0);
        CHECK(membership.version() == all.version());
        CHECK(!membership.wait_for_change(all.version(), std::chrono::milliseconds(1)));
        CHECK(membership.wait_for_change(0, std::chrono::milliseconds(1))->size() == 2);
        CHECK(membership.show().find("host1:29999") != std::string::npos);
        membership.stop_heartbeat("worker-1");
        kept = all;
        membership.close();
        membership.close();
        CHECK(code_of([&] { membership.list(); }) == AXM_ERROR_CLOSED);
    }
    CHECK(kept->size() == 2 && kept->skipped().empty());
    const auto host1 = [](const am::Member &member) { return member.host() == "host1"; };
    const auto found = std::find_if(kept->begin(), kept->end(), host1);
    CHECK(found != kept->end() && (*found).is_live() && (*found).rpc_port() == 29999);
    CHECK(kept->find((*found).identity())->host() == "host1");
    CHECK(!kept->find("worker-7"));
}

static void skipped_records(const std::string &endpoint)
{
    am::Config config;
    config.set("alluxio.worker.membership.manager.type", "ETCD")
        .set("alluxio.etcd.endpoints", endpoint)
        .set("alluxio.cluster.name", "c")
        .set("alluxio.membership.native.operation.timeout", "2min");
    const am::Membership membership(config);
    const auto skipped = membership.list().skipped();
    CHECK(skipped.size() == 2);
    CHECK(skipped[0].key == "/DHT/c/AUTHORIZED/broken" && !skipped[0].reason.empty());
    CHECK(skipped[1].key == "/ServiceDiscovery/c/broken" && !skipped[1].reason.empty());
}

static void subscriptions(const std::string &hosts_file)
{
    const am::Membership membership(config(hosts_file));
    std::promise<std::size_t> both;
    std::size_t added = 0;
    const am::Subscription subscription =
        membership.subscribe([&](int32_t event, const am::Member &member, const am::Snapshot &all) {
            CHECK(event == AXM_EVENT_ADDED && !member.host().empty());
            if (++added == 2) {
                both.set_value(all.size());
            }
        });
    CHECK(both.get_future().get() == 2);
}

/** A callback that says when it is called, and then stays until it may return. */
struct Staying {
    std::promise<void> entered;
    std::promise<void> go_on;
    std::atomic<int> calls{0};
    std::atomic<bool> returned{false};

    am::Subscription::Callback callback()
    {
        /* What the callback holds tells how long it lives. */
        return [this, held = std::make_shared<std::string>("held")](int32_t, const am::Member &, const am::Snapshot &) {
            if (calls++ == 0) {
                entered.set_value();
                go_on.get_future().wait();
                CHECK(*held == "held");
                returned = true;
            }
        };
    }
};

static void moved_subscriptions(const std::string &hosts_file)
{
    const am::Membership membership(config(hosts_file));
    Staying first, second;
    am::Subscription subscription = membership.subscribe(first.callback());
    first.entered.get_future().wait();
    am::Subscription other = membership.subscribe(second.callback());
    second.entered.get_future().wait();
    /* The first one ends with the assignment, which waits for its call. */
    auto assigned = std::async(std::launch::async, [&] {
        subscription = std::move(other);
        CHECK(first.returned);
    });
    CHECK(assigned.wait_for(std::chrono::milliseconds(50)) == std::future_status::timeout);
    first.go_on.set_value();
    assigned.get();
    CHECK(first.calls <= 2);
    /* The second one goes on in its new place, also after the old one's end. */
    am::Subscription moved(std::move(subscription));
    am::Subscription &same = moved;
    moved = std::move(same);
    CHECK(!second.returned);
    second.go_on.set_value();
    while (second.calls < 2) {
        std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
    subscription = membership.subscribe([](int32_t, const am::Member &, const am::Snapshot &) {});
}

/* A callback that destroys its own subscription, or assigns another one to it, is called no more, and lives on until it
 * returns. */
static void ended_from_inside(const std::string &hosts_file, bool assigned)
{
    const am::Membership membership(config(hosts_file));
    std::optional<am::Subscription> subscription;
    std::promise<void> subscribed;
    std::promise<void> ended;
    auto held = std::make_shared<std::string>("held");
    const std::weak_ptr<std::string> watched = held;
    int calls = 0;
    subscription.emplace(membership.subscribe([&, held = std::move(held)](int32_t, const am::Member &, const am::Snapshot &) {
        CHECK(++calls == 1);
        subscribed.get_future().wait();
        if (assigned) {
            *subscription = membership.subscribe([](int32_t, const am::Member &, const am::Snapshot &) {});
        } else {
            subscription.reset();
        }
        CHECK(*held == "held");
        ended.set_value();
    }));
    subscribed.set_value();
    ended.get_future().wait();
    /* The callback is destroyed by its own thread, after its return. */
    while (!watched.expired()) {
        std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
    CHECK(calls == 1);
}

static void empty_callback(const std::string &hosts_file)
{
    const am::Membership membership(config(hosts_file));
    bool refused = false;
    try {
        const am::Subscription subscription = membership.subscribe(nullptr);
    } catch (const std::invalid_argument &) {
        refused = true;
    }
    CHECK(refused);
}

int main(int argc, char **argv)
{
    CHECK(argc == 3);
    errors(argv[1]);
    snapshots(argv[1]);
    skipped_records(argv[2]);
    subscriptions(argv[1]);
    moved_subscriptions(argv[1]);
    ended_from_inside(argv[1], false);
    ended_from_inside(argv[1], true);
    empty_callback(argv[1]);
    return 0;
}
