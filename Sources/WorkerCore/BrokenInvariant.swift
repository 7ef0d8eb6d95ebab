/// What `checkInvariants` found: an error of ours.
package struct BrokenInvariant: Error, Equatable, CustomStringConvertible {
    package let description: String
    init(_ description: String) { self.description = description }
}
