package control

// Type is a message's number on the wire: append only.
type Type uint8

const (
	TypeHello         Type = 1
	TypeWelcome       Type = 2
	TypeUpdate        Type = 3
	TypeSessionReport Type = 4
	TypeKeyRequest    Type = 5
	TypeKeyOffer      Type = 6
	TypeKeyAccept     Type = 7
	TypeKeyGrant      Type = 8
	TypeKeyDenial     Type = 9
	TypeNarrow        Type = 10
	TypeNarrowAck     Type = 11
	TypeRevoke        Type = 12
	TypeRevokeAck     Type = 13
	TypeEndpoint      Type = 14
	TypeLookup        Type = 15
	TypeLookupReply   Type = 16
	TypeRotateKey     Type = 17
	TypeEnrol         Type = 18
	TypeEnrolGrant    Type = 19
	TypePing          Type = 20
	TypePong          Type = 21
	TypeRefusal       Type = 22
)

// Message is one of the structs of messages.go, or an UnknownMessage.
type Message interface{ Type() Type }

func (*Hello) Type() Type         { return TypeHello }
func (*Welcome) Type() Type       { return TypeWelcome }
func (*Update) Type() Type        { return TypeUpdate }
func (*SessionReport) Type() Type { return TypeSessionReport }
func (*KeyRequest) Type() Type    { return TypeKeyRequest }
func (*KeyOffer) Type() Type      { return TypeKeyOffer }
func (*KeyAccept) Type() Type     { return TypeKeyAccept }
func (*KeyGrant) Type() Type      { return TypeKeyGrant }
func (*KeyDenial) Type() Type     { return TypeKeyDenial }
func (*Narrow) Type() Type        { return TypeNarrow }
func (*NarrowAck) Type() Type     { return TypeNarrowAck }
func (*Revoke) Type() Type        { return TypeRevoke }
func (*RevokeAck) Type() Type     { return TypeRevokeAck }
func (*Endpoint) Type() Type      { return TypeEndpoint }
func (*Lookup) Type() Type        { return TypeLookup }
func (*LookupReply) Type() Type   { return TypeLookupReply }
func (*RotateKey) Type() Type     { return TypeRotateKey }
func (*Enrol) Type() Type         { return TypeEnrol }
func (*EnrolGrant) Type() Type    { return TypeEnrolGrant }
func (*Ping) Type() Type          { return TypePing }
func (*Pong) Type() Type          { return TypePong }
func (*Refusal) Type() Type       { return TypeRefusal }

// messages has for every type how an empty message of it is made.
var messages = [...]func() Message{
	TypeHello:         empty[Hello],
	TypeWelcome:       empty[Welcome],
	TypeUpdate:        empty[Update],
	TypeSessionReport: empty[SessionReport],
	TypeKeyRequest:    empty[KeyRequest],
	TypeKeyOffer:      empty[KeyOffer],
	TypeKeyAccept:     empty[KeyAccept],
	TypeKeyGrant:      empty[KeyGrant],
	TypeKeyDenial:     empty[KeyDenial],
	TypeNarrow:        empty[Narrow],
	TypeNarrowAck:     empty[NarrowAck],
	TypeRevoke:        empty[Revoke],
	TypeRevokeAck:     empty[RevokeAck],
	TypeEndpoint:      empty[Endpoint],
	TypeLookup:        empty[Lookup],
	TypeLookupReply:   empty[LookupReply],
	TypeRotateKey:     empty[RotateKey],
	TypeEnrol:         empty[Enrol],
	TypeEnrolGrant:    empty[EnrolGrant],
	TypePing:          empty[Ping],
	TypePong:          empty[Pong],
	TypeRefusal:       empty[Refusal],
}

func empty[M any, P interface {
	*M
	Message
}]() Message {
	return P(new(M))
}

// newMessage is an empty message of type t, or nil for a type that this version does not know.
func newMessage(t Type) Message {
	if int(t) >= len(messages) || messages[t] == nil {
		return nil
	}
	return messages[t]()
}

// UnknownMessage stands for a message of a type that this version does not know.
type UnknownMessage struct{ Number Type }

// Type is the number on the wire.
func (u *UnknownMessage) Type() Type { return u.Number }
