// SPDX-License-Identifier: Apache-2.0

// Command program stands for the binary of an image: it prints its version.
package main

var version string

func main() { print(version) }
