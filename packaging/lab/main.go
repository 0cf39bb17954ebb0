// Command lab runs the tests of package guest on a real Linux USB stack: it
// boots a small guest under software emulation whose only program is the test
// binary, and judges what the guest wrote on its serial console.
//
// Start it with `make lab` or packaging/lab/run, which install what it needs;
// README.md says what stands where and how to add a test. By hand:
//
//	go run ./packaging/lab -kernel DIR [-run REGEXP] [-console FILE]
//
// DIR holds an unpacked Debian kernel package (boot/ and lib/modules/). The exit
// code is 0 when every test of the binary passed in the guest, and 1 in every
// other case: QEMU's own exit code says nothing, and a guest in which no test ran
// is a failure.
//
// What it does not do: it installs nothing, needs no KVM and no root.
package main

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

func main() {
	kernel := flag.String("kernel", "", "directory of an unpacked Debian kernel package")
	run := flag.String("run", "", "run only the tests that match")
	console := flag.String("console", "", "keep the console's text in this file (default: beside the kernel)")
	limit := flag.Duration("limit", 10*time.Minute, "kill the guest after this time")
	flag.Parse()
	if err := lab(*kernel, *run, *console, *limit); err != nil {
		fmt.Fprintln(os.Stderr, "lab:", err)
		os.Exit(1)
	}
}

// lab builds the guest, runs it and judges it.
func lab(kernelDir, pattern, console string, limit time.Duration) error {
	start := time.Now()
	if kernelDir == "" {
		return errors.New("-kernel is missing: packaging/lab/run knows where the kernel lies")
	}
	k, err := openKernel(kernelDir)
	if err != nil {
		return err
	}
	if console == "" {
		console = filepath.Join(kernelDir, "console.txt")
	}
	work, err := os.MkdirTemp("", "tillbridge-lab-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(work)

	binary := filepath.Join(work, "guest.test")
	build := exec.Command("go", "test", "-c", "-tags", "usb,lab", "-o", binary, "./packaging/lab/guest")
	build.Env = append(os.Environ(), "CGO_ENABLED=1")
	if out, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("build the guest's tests: %w\n%s", err, out)
	}
	if pattern == "" {
		pattern = "."
	}
	list, err := exec.Command(binary, "-test.list", pattern).Output()
	if err != nil {
		return fmt.Errorf("list the guest's tests: %w", err)
	}
	want := strings.Fields(string(list))
	image := filepath.Join(work, "initramfs")
	if err := writeImage(image, binary, k); err != nil {
		return err
	}
	built := time.Now()

	nonce := make([]byte, 8)
	rand.Read(nonce)
	mark := hex.EncodeToString(nonce)
	// Two runs at a time must not write into one file: each has its own, and the
	// last one is kept.
	live := filepath.Join(work, "console.txt")
	out, err := os.Create(live)
	if err != nil {
		return err
	}
	defer out.Close()
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	qemu := guest(ctx, work, k.image, image, mark, pattern, limit)
	qemu.Stdout, qemu.Stderr = out, out
	qemuErr := qemu.Run()
	took := time.Since(built)

	text, err := os.ReadFile(live)
	if err != nil {
		return err
	}
	if err := os.WriteFile(console, text, 0o644); err != nil {
		return err
	}
	v := judge(string(text), mark, want)
	fmt.Printf("lab: kernel %s, %d tests, %d passed; built in %.1f s, guest %.1f s\n", k.version, len(want), v.passed, built.Sub(start).Seconds(), took.Seconds())
	for _, line := range v.said {
		fmt.Println("  " + line)
	}
	if len(v.problems) == 0 {
		return nil
	}
	if ctx.Err() != nil {
		v.problems = append(v.problems, fmt.Sprintf("the guest was killed after %s", limit))
	} else if qemuErr != nil {
		v.problems = append(v.problems, fmt.Sprintf("qemu: %v", qemuErr))
	}
	io.WriteString(os.Stdout, "lab: the end of the console, all of it in "+console+":\n"+tail(string(text), 120))
	return fmt.Errorf("%s", strings.Join(v.problems, "\n     "))
}

// guest is the machine: its console is standard output, its other three serial
// lines are QEMU's monitor, the card behind the reader and the pad behind the
// USB serial adapter. A line is joined to its device by a socket of which QEMU
// holds both ends.
func guest(ctx context.Context, dir, kernel, image, mark, pattern string, limit time.Duration) *exec.Cmd {
	line := func(name string, index int) []string {
		path := filepath.Join(dir, name)
		return []string{"-chardev", "socket,id=" + name + ",path=" + path + ",server=on,wait=off",
			"-chardev", "socket,id=" + name + "-line,path=" + path,
			"-device", fmt.Sprintf("isa-serial,index=%d,chardev=%s-line", index, name)}
	}
	args := []string{"-machine", "q35", "-accel", "tcg,thread=multi", "-cpu", "qemu64", "-m", "512", "-smp", "1",
		"-nodefaults", "-no-user-config", "-display", "none", "-no-reboot", "-serial", "stdio",
		"-kernel", kernel, "-initrd", image,
		"-append", "console=ttyS0 quiet loglevel=3 panic=-1 lpj=4000000 no_timer_check nokaslr mitigations=off rdinit=/init " +
			"LAB_NONCE=" + mark + " -- -test.v -test.timeout=" + (limit * 9 / 10).String() + " -test.run=" + pattern}
	args = append(args, line("monitor", 1)...)
	args = append(args, "-mon", "chardev=monitor,mode=control")
	args = append(args, line("card", 2)...)
	args = append(args, line("pad", 3)...)
	args = append(args, "-device", "qemu-xhci,id=xhci",
		"-device", "usb-ccid,id=reader,bus=xhci.0,port=1,serial=LAB0002", "-device", "ccid-card-passthru,id=slot,bus=reader.0,chardev=card",
		"-device", "usb-serial,id=adapter,bus=xhci.0,port=2,chardev=pad,serial=LAB0001,always-plugged=on")
	return exec.CommandContext(ctx, "qemu-system-x86_64", args...)
}
