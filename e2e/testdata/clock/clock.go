package main

import (
	"os"
	"syscall"
	"unsafe"
)

// The runtime asks the kernel's vDSO for the time through this variable. Without one it
// makes a system call; with entry in it, everything in the process tells the time by step.
//
//go:linkname vdsoClockgettimeSym runtime.vdsoClockgettimeSym
var vdsoClockgettimeSym uintptr

// entry is the address of the function in clock_amd64.s.
var entry uintptr

// step is the difference of the wall clock in seconds: the first 8 bytes of the file in
// CLOCK_STEP, so that a test can change it at once. The monotonic clock does not change, as on
// a machine whose clock is set.
var step *int64

func init() {
	f, err := os.Open(os.Getenv("CLOCK_STEP"))
	if err != nil {
		panic(err)
	}
	page, err := syscall.Mmap(int(f.Fd()), 0, 8, syscall.PROT_READ, syscall.MAP_SHARED)
	if err != nil {
		panic(err)
	}
	_ = f.Close()
	step = (*int64)(unsafe.Pointer(&page[0]))
	vdsoClockgettimeSym = entry
}
