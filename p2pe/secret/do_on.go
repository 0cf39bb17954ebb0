//go:build goexperiment.runtimesecret

package secret

import "runtime/secret"

// Do runs f and erases its stack, registers and heap afterwards (heap once it
// is unreachable). f starts no goroutine and keeps nothing in globals.
func Do(f func()) { secret.Do(f) }

// Erases reports whether Do erases: the program was built with
// GOEXPERIMENT=runtimesecret.
func Erases() bool { return true }
