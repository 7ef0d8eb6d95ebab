/// The version of everything in this package; also that of the Python package and of the C library.
package let rainVersion = "0.1.0"
