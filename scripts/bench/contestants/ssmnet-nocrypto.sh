# ssmnet as it never is released: frames are neither sealed nor opened, all else is as it is. What the cipher costs us.

. scripts/bench/contestants/ssmnet.sh
programs=$work/nocrypto

prepare() {
  CGO_ENABLED=0 GOEXPERIMENT=runtimesecret go build -tags nocrypto -trimpath -ldflags '-s -w' -o "$programs/" ./cmd/kdc ./cmd/ssm
}
