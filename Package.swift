// swift-tools-version: 6.2
import PackageDescription

let strict: [SwiftSetting] = [
    .enableUpcomingFeature("ExistentialAny"),
    .enableUpcomingFeature("MemberImportVisibility"),
]
/// The cores are small modules for readers; in release the optimiser must see through their borders.
let core: [SwiftSetting] = strict + [.unsafeFlags(["-cross-module-optimization"], .when(configuration: .release))]

let package = Package(
    name: "rain",
    platforms: [.macOS(.v15)],
    products: [
        .executable(name: "rain", targets: ["rain"]),
        .library(name: "csubworker", type: .static, targets: ["CSubworker"]),
        .library(name: "Subworker", targets: ["Subworker"]),
    ],
    dependencies: [
        .package(url: "https://github.com/apple/swift-argument-parser", from: "1.8.2"),
        .package(url: "https://github.com/apple/swift-log", from: "1.16.2"),
        .package(url: "https://github.com/apple/swift-nio", from: "2.101.2"),
        .package(url: "https://github.com/apple/swift-http-types", from: "1.8.0"),
        .package(url: "https://github.com/hummingbird-project/hummingbird", from: "2.28.1", traits: []),
    ],
    targets: [
        // Pure values and state machines: they import nothing that can block, read a clock or draw a random number.
        .target(name: "TaskModel", swiftSettings: core),
        .target(name: "Link", dependencies: ["TaskModel"], swiftSettings: core),
        .target(name: "Scheduling", dependencies: ["TaskModel"], swiftSettings: core),
        .target(name: "ServerCore", dependencies: ["TaskModel", "Link", "Scheduling"], swiftSettings: core),
        .target(name: "WorkerCore", dependencies: ["TaskModel", "Link"], swiftSettings: core),
        .target(name: "Tar", swiftSettings: core),

        // Whole clusters of them in virtual time.
        .target(name: "Simulation", dependencies: ["TaskModel", "Link", "ServerCore", "WorkerCore"], swiftSettings: core),
        .executableTarget(name: "rain-simulate", dependencies: ["Simulation"], path: "Sources/Simulate", swiftSettings: strict),

        // C and C++ below the shells. Debian's libraries, by module map.
        .systemLibrary(name: "CZeroMQ"),
        .systemLibrary(name: "CSodium"),
        .systemLibrary(name: "CXXHash"),
        .systemLibrary(name: "CSQLite"),
        .target(name: "CLinux"),
        .target(name: "CTOML"),
        .target(name: "CCapnp", linkerSettings: [.linkedLibrary("capnp"), .linkedLibrary("kj")]),
        .target(name: "CSubworker", path: ".", sources: ["CSubworker"], publicHeadersPath: "include"),

        // Tasks in Swift.
        .target(name: "Subworker", dependencies: ["CSubworker"], swiftSettings: strict),
        .executableTarget(name: "example-swift", dependencies: ["Subworker"], path: "examples/swift", swiftSettings: strict),

        // Shells.
        .target(name: "Wire", dependencies: ["TaskModel", "Link", "CCapnp"], exclude: ["control.capnp"], swiftSettings: core),
        .target(name: "Transport", dependencies: ["CZeroMQ", "CSodium", "CXXHash"], swiftSettings: strict),
        .target(name: "Journal", dependencies: ["TaskModel", "Link", "ServerCore", "Wire", "CSQLite", "CXXHash", "CLinux"], swiftSettings: strict),
        .target(
            name: "Server",
            dependencies: [
                "TaskModel", "Link", "ServerCore", "Wire", "Transport", "Journal", "Tar", "CLinux", "CSodium", "CXXHash",
                .product(name: "HummingbirdCore", package: "hummingbird"),
                .product(name: "HTTPTypes", package: "swift-http-types"),
                .product(name: "NIOCore", package: "swift-nio"), .product(name: "NIOPosix", package: "swift-nio"),
                .product(name: "NIOHTTP1", package: "swift-nio"), .product(name: "Logging", package: "swift-log"),
            ], swiftSettings: strict),
        .target(
            name: "Worker",
            dependencies: [
                "TaskModel", "Link", "WorkerCore", "Wire", "Transport", "Tar", "CLinux", "CSodium", "CXXHash",
                .product(name: "NIOCore", package: "swift-nio"), .product(name: "NIOPosix", package: "swift-nio"),
                .product(name: "NIOHTTP1", package: "swift-nio"), .product(name: "Logging", package: "swift-log"),
            ], swiftSettings: strict),
        .executableTarget(
            name: "rain",
            dependencies: [
                "TaskModel", "Server", "Worker", "Transport", "CLinux", "CTOML",
                .product(name: "ArgumentParser", package: "swift-argument-parser"),
            ], path: "Sources/CLI", swiftSettings: strict),

        .testTarget(name: "LinkTests", dependencies: ["Link", "TaskModel"], swiftSettings: strict),
        .testTarget(name: "ServerCoreTests", dependencies: ["ServerCore", "TaskModel", "Link"], swiftSettings: strict),
        .testTarget(name: "WireTests", dependencies: ["Wire", "CCapnp", "Link", "TaskModel"], swiftSettings: strict),
        .testTarget(name: "TransportTests", dependencies: ["Transport", "CZeroMQ"], swiftSettings: strict),
        .testTarget(name: "PurityTests", swiftSettings: strict),
        .testTarget(name: "TarTests", dependencies: ["Tar"], swiftSettings: strict),
        .testTarget(name: "WorkerCoreTests", dependencies: ["WorkerCore", "TaskModel", "Link"], swiftSettings: strict),
        .testTarget(name: "CLITests", dependencies: ["rain", "TaskModel"], swiftSettings: strict),
        .testTarget(name: "JournalTests", dependencies: ["Journal", "ServerCore", "Link", "TaskModel"], swiftSettings: strict),
        .testTarget(
            name: "ServerTests",
            dependencies: [
                "Server", "Journal", "ServerCore", "Link", "TaskModel", "Transport", "Wire",
                .product(name: "NIOCore", package: "swift-nio"), .product(name: "NIOPosix", package: "swift-nio"),
            ], swiftSettings: strict),
        .testTarget(
            name: "WorkerTests",
            dependencies: [
                "Worker", "WorkerCore", "Wire", "Transport", "Tar", "TaskModel", "Link", "CLinux", "rain",
                .product(name: "NIOCore", package: "swift-nio"), .product(name: "NIOPosix", package: "swift-nio"),
            ], exclude: ["Fixtures"], swiftSettings: strict),
        .testTarget(name: "SchedulingTests", dependencies: ["Scheduling"], swiftSettings: strict),
        .testTarget(name: "SimulationTests", dependencies: ["Simulation"], swiftSettings: strict),
    ],
    cLanguageStandard: .c11,
    cxxLanguageStandard: .cxx17
)

// What sanitizers and fuzzers look at, without the HTTP stack, so that it builds fast. scripts/reduced-package sets it up in
// a directory of its own, so that these builds and their resolved dependencies stay apart from the normal ones.
if let part = Context.environment["RAIN_SANITIZE_TARGETS"] {
    // The C library has its own tests with sanitizers, by CMake; what looks at texts only needs none.
    var left: Set = ["CSubworker", "PurityTests"]
    var leftCount = 0
    while left.count > leftCount {
        leftCount = left.count
        for target in package.targets {
            for dependency in target.dependencies {
                switch dependency {
                case .productItem: left.insert(target.name)
                case .targetItem(let name, _), .byNameItem(let name, _): if left.contains(name) { left.insert(target.name) }
                @unknown default: break
                }
            }
        }
    }
    package.targets.removeAll { left.contains($0.name) }
    package.products = []
    package.dependencies = [.package(url: "https://github.com/apple/swift-http-types", from: "1.8.0")]
    // What reads the bodies of clients.
    package.targets.append(
        .target(
            name: "Server",
            dependencies: ["TaskModel", "Link", "ServerCore", "CXXHash", .product(name: "HTTPTypes", package: "swift-http-types")],
            sources: [
                "ByteRange.swift", "HTTPFailure.swift", "JSONCursor.swift", "JSONWriter.swift", "JSONWriter+Answers.swift",
                "RequestBodies.swift", "SubmitScanner.swift",
            ], swiftSettings: strict))
    if part == "fuzz" {
        package.targets.removeAll { $0.type == .test }
        package.targets.append(
            .executableTarget(
                name: "fuzz", dependencies: ["Server", "ServerCore", "WorkerCore", "Wire", "CCapnp", "Link", "Tar", "TaskModel"], path: "Tests",
                sources: ["Fuzz/Swift", "WireTests/ValueGenerator.swift"], swiftSettings: strict))
    } else {
        package.targets.append(
            .testTarget(
                name: "ServerTests", dependencies: ["Server", "ServerCore", "TaskModel"],
                sources: ["ByteRangeTests.swift", "JSONCursorTests.swift", "SubmitScannerTests.swift"], swiftSettings: strict))
    }
}
