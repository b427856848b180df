/*
 * Registers a worker and keeps it registered until standard input ends, then leaves.
 *
 *   c++ -std=c++17 worker.cpp $(pkg-config --cflags --libs alluxio-membership) -o worker
 *   ./worker conf/alluxio-site.properties worker-6f8e7f2c-8f0e-4a53-a8ff-f37d8e2d4f0d host1 29999
 */
#include <alluxio_membership.hpp>

#include <iostream>
#include <string>

namespace am = alluxio::membership;

int main(int argc, char **argv)
{
    if (argc != 5) {
        std::cerr << "Usage: worker SITE_PROPERTIES WORKER_ID HOST RPC_PORT\n";
        return 2;
    }
    try {
        am::Membership membership(am::Config().load_file(argv[1]));
        membership.join(am::Worker(argv[2], argv[3]).rpc_port(std::stoi(argv[4])));
        std::cout << "registered " << argv[2] << std::endl;
        while (std::cin.get() != std::istream::traits_type::eof()) {
        }
        /* The worker is lost at once, not when its lease ends. */
        membership.close();
    } catch (const std::exception &error) {
        std::cerr << "worker: " << error.what() << '\n';
        return 1;
    }
    return 0;
}
