package drivertest

import (
	"io"
	"os"
	"testing"
)

func TestPTY(t *testing.T) {
	device, path := PTY(t)
	host, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer host.Close()
	all := make([]byte, 256)
	for i := range all {
		all[i] = byte(i)
	}
	for _, way := range [][2]io.ReadWriter{{device, host}, {host, device}} {
		if _, err := way[0].Write(all); err != nil {
			t.Fatal(err)
		}
		got := make([]byte, 256)
		if _, err := io.ReadFull(way[1], got); err != nil {
			t.Fatal(err)
		}
		if string(got) != string(all) {
			t.Error("the line changes bytes")
		}
	}
	ended := make(chan error)
	go func() { _, err := device.Read(all); ended <- err }()
	device.Close()
	if err := <-ended; err == nil {
		t.Error("a read of a closed device ended without an error")
	}
}
