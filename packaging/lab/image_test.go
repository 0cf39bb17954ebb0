package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// unpack reads an archive back by the kernel's description of the form.
func unpack(t *testing.T, b []byte) (names []string, data map[string]string) {
	t.Helper()
	data = map[string]string{}
	up := func(n int) int { return (n + 3) / 4 * 4 }
	for at := 0; ; {
		if at+110 > len(b) || string(b[at:at+6]) != "070701" {
			t.Fatalf("no header at %d", at)
		}
		field := func(i int) int {
			n, err := strconv.ParseInt(string(b[at+6+8*i:at+14+8*i]), 16, 64)
			if err != nil {
				t.Fatal(err)
			}
			return int(n)
		}
		size, length := field(6), field(11)
		name := string(b[at+110 : at+110+length-1])
		if name == "TRAILER!!!" {
			return names, data
		}
		start := up(at + 110 + length)
		names, data[name] = append(names, name), string(b[start:start+size])
		at = up(start + size)
	}
}

func TestArchive(t *testing.T) {
	var b bytes.Buffer
	a := &archive{w: &b, dirs: map[string]bool{}}
	a.file("lib/deep/x.so", 0o755, []byte("12345"))
	a.file("lib/y", 0o644, nil)
	a.file("init", 0o755, []byte("program"))
	a.entry("TRAILER!!!", 0, nil)
	names, data := unpack(t, b.Bytes())
	if want := []string{"lib", "lib/deep", "lib/deep/x.so", "lib/y", "init"}; !slices.Equal(names, want) {
		t.Errorf("%v", names)
	}
	if data["lib/deep/x.so"] != "12345" || data["lib/y"] != "" || data["init"] != "program" {
		t.Errorf("%v", data)
	}
}

func TestModulesInOrder(t *testing.T) {
	files := map[string]string{"xhci_pci": "xhci-pci.ko", "xhci_hcd": "xhci-hcd.ko", "usbcore": "usbcore.ko", "usb_common": "usb-common.ko",
		"hid": "hid.ko", "usbhid": "usbhid.ko", "unix": "", "round": "round.ko", "about": "about.ko"}
	needs := func(path string) ([]string, error) {
		list, ok := map[string]string{"xhci-pci.ko": "xhci-hcd,usbcore", "xhci-hcd.ko": "usbcore", "usbcore.ko": "usb-common",
			"usbhid.ko": "hid,usbcore,unix", "round.ko": "about", "about.ko": "round", "hid.ko": "", "usb-common.ko": ""}[path]
		if !ok {
			return nil, errors.New("no such file")
		}
		return slices.DeleteFunc(strings.Split(list, ","), func(s string) bool { return s == "" }), nil
	}
	got, err := resolve(files, needs, []string{"xhci-pci", "usbhid"})
	if want := []string{"usb-common.ko", "usbcore.ko", "xhci-hcd.ko", "xhci-pci.ko", "hid.ko", "usbhid.ko"}; err != nil || !slices.Equal(got, want) {
		t.Errorf("%v, %v", got, err)
	}
	if _, err := resolve(files, needs, []string{"round"}); err != nil { // two that need each other: no end without a check
		t.Error(err)
	}
	if _, err := resolve(files, needs, []string{"raw-gadget"}); err == nil || !strings.Contains(err.Error(), "raw_gadget") {
		t.Errorf("a module that is not there: %v", err)
	}
	for path, want := range map[string]string{"kernel/drivers/usb/usbip/vhci-hcd.ko": "vhci_hcd", "a/b-c.ko.xz": "b_c", "x/y.ko": "y"} {
		if got := moduleName(path); got != want {
			t.Errorf("%s: %s", path, got)
		}
	}
}

// The kernel is found whatever its version; none and two are refused.
func TestKernelOfAnyVersion(t *testing.T) {
	dir := t.TempDir()
	if _, err := openKernel(dir); err == nil || !strings.Contains(err.Error(), "0 kernels") {
		t.Errorf("none: %v", err)
	}
	for n, version := range []string{"6.1.0-99-amd64", "7.0.1-amd64"} {
		if err := os.MkdirAll(filepath.Join(dir, "boot"), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, "boot", "vmlinuz-"+version), []byte("image"), 0o644); err != nil {
			t.Fatal(err)
		}
		_, err := openKernel(dir)
		want := "lib/modules/" + version // there are none here
		if n == 1 {
			want = fmt.Sprintf("%d kernels", n+1)
		}
		if err == nil || !strings.Contains(filepath.ToSlash(err.Error()), want) {
			t.Errorf("%s: %v", version, err)
		}
	}
}
