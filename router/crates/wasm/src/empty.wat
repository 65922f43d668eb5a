;; A plugin that passes everything and looks at nothing, for comparison: what it costs, any plugin of its door costs.
;; What stands in braces, the name of the door and its function, is filled in by empty.rs.
;;
;; Its memory: 1024 the answer, 2048 the result of `configure` (zeros: accepted, no field is looked at), from 4096 what the
;; router puts there and, behind that, the verdicts. All from 4096 on is free again after each call.
(module
  (memory (export "memory") 1)
  (global $free (mut i32) (i32.const 4096))
  (func $allocate (export "cabi_realloc") (param i32 i32) (param $align i32) (param $size i32) (result i32)
    (local $at i32)
    (local.set $at (i32.and
      (i32.add (global.get $free) (i32.sub (local.get $align) (i32.const 1)))
      (i32.sub (i32.const 0) (local.get $align))))
    (global.set $free (i32.add (local.get $at) (local.get $size)))
    (block $room
      (loop $grow
        (br_if $room (i32.le_u (global.get $free) (i32.mul (memory.size) (i32.const 65536))))
        (br_if $grow (i32.ne (memory.grow (i32.const 1)) (i32.const -1))))
      (unreachable))
    (local.get $at))
  ;; A list of so many verdicts of so many bytes, all zero, which is to pass.
  (func $pass (param $count i32) (param $bytes i32) (result i32)
    (local $at i32)
    (local.set $at (call $allocate (i32.const 0) (i32.const 0) (i32.const 8)
      (i32.mul (local.get $count) (local.get $bytes))))
    (memory.fill (local.get $at) (i32.const 0) (i32.mul (local.get $count) (local.get $bytes)))
    (i32.store (i32.const 1024) (local.get $at))
    (i32.store (i32.const 1028) (local.get $count))
    (i32.const 1024))
  (func (export "{door}#configure") (param i32 i32) (result i32)
    (global.set $free (i32.const 4096))
    (i32.const 2048))
  {process}
  (func (export "cabi_post_{door}#process") (param i32)
    (global.set $free (i32.const 4096))))
